/* SPDX-License-Identifier: MIT */
/* The governor of several devices, fed with rates as machines have shown them. */
#include "flow/governor.h"

#include "support/unit.h"

#include <string.h>

/* Rates of 1, 2... lanes; 0: on a line between its neighbours. */
struct curve {
    uint32_t lanes;
    double rates[9];
};

static double rate_of(const struct curve *curve, uint32_t active)
{
    if (curve->rates[active])
        return curve->rates[active];
    uint32_t low = active, high = active;
    while (!curve->rates[low])
        low--;
    while (!curve->rates[high])
        high++;
    return curve->rates[low] +
           (curve->rates[high] - curve->rates[low]) * (active - low) / (high - low);
}

static double best_of(const struct curve *curve)
{
    double best = 0;
    for (uint32_t i = 1; i <= curve->lanes; i++) {
        if (rate_of(curve, i) > best)
            best = rate_of(curve, i);
    }
    return best;
}

/* The mean rate of `windows` windows. `noise` is the share by which they differ at most. */
static double run(struct mr__governor *governor, const struct curve *curve, uint32_t windows,
                  double noise)
{
    static uint64_t state = 1;
    double sum = 0;
    for (uint32_t i = 0; i < windows; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const double off = (double)(state >> 33) / (double)(1u << 30) - 1; /* -1 to 1 */
        const double rate = rate_of(curve, governor->active) * (1 + noise * off);
        sum += rate;
        const uint32_t active = mr__governor_window(governor, rate);
        assert_int_equal(governor->active, active);
        assert_true(active >= 1 && active <= curve->lanes);
    }
    return sum / windows;
}

/* Eight H200 of one host, copying both ways. */
static const struct curve both_ways = { 8, { 0, 100, 198, 0, 133, 0, 0, 0, 157 } };
/* The same host, copying one way. */
static const struct curve one_way = { 8, { 0, 55, 110, 0, 139, 0, 0, 0, 201 } };
static const struct curve linear = { 8, { 0, 1, 0, 0, 0, 0, 0, 0, 8 } };
static const struct curve falling = { 5, { 0, 100, 60, 50, 45, 40 } };
static const struct curve hump = { 6, { 0, 50, 95, 120, 100, 90, 80 } };

static void governor_ends_at_the_best_number(void **state)
{
    (void)state;
    const struct curve *curves[] = { &both_ways, &one_way, &linear, &falling, &hump };
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        struct mr__governor governor;
        mr__governor_init(&governor, curves[i]->lanes);
        run(&governor, curves[i], 40, 0);
        const double mean = run(&governor, curves[i], 2000, 0);
        assert_true(rate_of(curves[i], governor.active) >= 0.98 * best_of(curves[i]));
        assert_true(mean >= 0.98 * best_of(curves[i]));
    }
}

static void noise_does_not_lead_it_astray(void **state)
{
    (void)state;
    const struct curve *curves[] = { &both_ways, &one_way, &linear, &falling };
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        struct mr__governor governor;
        mr__governor_init(&governor, curves[i]->lanes);
        run(&governor, curves[i], 40, 0.04);
        assert_true(run(&governor, curves[i], 2000, 0.04) >= 0.95 * best_of(curves[i]));
    }
}

static void computing_stays_on_all_devices(void **state)
{
    (void)state;
    struct mr__governor governor;
    mr__governor_init(&governor, 8);
    assert_int_equal(8, governor.active);
    /* One look at half of them, and no more for long. */
    const double first = run(&governor, &linear, 100, 0);
    assert_int_equal(8, governor.active);
    assert_true(first >= 0.98 * 8);
}

static void governor_follows_a_changed_curve(void **state)
{
    (void)state;
    struct mr__governor governor;
    mr__governor_init(&governor, 8);
    run(&governor, &both_ways, 100, 0);
    assert_int_equal(2, governor.active);
    run(&governor, &linear, 60, 0);
    assert_int_equal(8, governor.active);
    run(&governor, &both_ways, 60, 0);
    assert_int_equal(2, governor.active);
}

static void one_lane_needs_no_search(void **state)
{
    (void)state;
    struct mr__governor governor;
    const struct curve alone = { 1, { 0, 5 } };
    mr__governor_init(&governor, 1);
    run(&governor, &alone, 1000, 0.5);
    assert_int_equal(1, governor.active);
}

static void nothing_delivered_is_no_trouble(void **state)
{
    (void)state;
    struct mr__governor governor;
    mr__governor_init(&governor, 4);
    for (int i = 0; i < 1000; i++)
        (void)mr__governor_window(&governor, 0);
    assert_true(governor.active >= 1 && governor.active <= 4);
}

static void check_places(uint32_t count, const uint64_t *bytes, const uint32_t *expected)
{
    uint32_t places[4] = { 9, 9, 9, 9 };
    mr__governor_places(bytes, count, places);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(expected[i], places[i]);
}

static void slow_lanes_are_the_first_to_go(void **state)
{
    (void)state;
    check_places(4, (uint64_t[]){ 10, 11, 9, 10 }, (uint32_t[]){ 0, 1, 2, 3 });
    check_places(4, (uint64_t[]){ 4, 10, 3, 9 }, (uint32_t[]){ 2, 0, 3, 1 });
    check_places(4, (uint64_t[]){ 5, 10, 5, 6 }, (uint32_t[]){ 0, 1, 2, 3 });
    check_places(2, (uint64_t[]){ 1, 3 }, (uint32_t[]){ 1, 0 });
    check_places(2, (uint64_t[]){ 0, 0 }, (uint32_t[]){ 0, 1 });
    check_places(3, (uint64_t[]){ 0, 1, 0 }, (uint32_t[]){ 1, 0, 2 });
    check_places(1, (uint64_t[]){ 7 }, (uint32_t[]){ 0 });
}

static void window_takes_time_and_parcels(void **state)
{
    (void)state;
    struct mr__rate rate = { 0 };
    double out = 0;
    uint64_t now_ns = 1000;
    assert_false(mr__rate_add(&rate, 2, 100, now_ns, &out));
    uint32_t parcels = 0;
    while (!mr__rate_add(&rate, 2, 100, now_ns += 10, &out))
        assert_true(++parcels < 10000000);
    assert_true(out > 9.99 && out < 10.01);
    /* Slow parcels make long windows. */
    parcels = 1;
    while (!mr__rate_add(&rate, 2, 100, now_ns += 1000000000, &out))
        parcels++;
    assert_int_equal(48, parcels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(governor_ends_at_the_best_number),
        cmocka_unit_test(noise_does_not_lead_it_astray),
        cmocka_unit_test(computing_stays_on_all_devices),
        cmocka_unit_test(governor_follows_a_changed_curve),
        cmocka_unit_test(one_lane_needs_no_search),
        cmocka_unit_test(nothing_delivered_is_no_trouble),
        cmocka_unit_test(slow_lanes_are_the_first_to_go),
        cmocka_unit_test(window_takes_time_and_parcels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
