/* SPDX-License-Identifier: MIT */
/*
 * Opens all devices of a backend around each test, and breaks one when asked.
 */
#include "support/several.h"

#include "support/check.h"

#include <dlfcn.h>

enum { EXIT_SKIPPED = 77, LISTING_LIMIT = 64, LAUNCH_FAILED = 719 };

/* ---- devices ---- */

static const mr_device_options cpu_options = { .worker_count = 4 };

/* Of the backend's devices that are here. */
static char names[SEVERAL_LIMIT][32];
static uint32_t name_count;

/* Answers why there is none. */
static const char *find_devices(const char *backend)
{
    static mr_device_listing lines[LISTING_LIMIT];
    const char *why = "no such backend";
    size_t line_count;
    CHECK_OK(mr_device_list(lines, LISTING_LIMIT, &line_count));
    for (size_t i = 0; i < line_count && i < LISTING_LIMIT; i++) {
        if (strncmp(lines[i].id, backend, strlen(backend)))
            continue;
        if (!lines[i].is_available)
            why = lines[i].reason;
        else if (name_count < SEVERAL_LIMIT)
            memcpy(names[name_count++], lines[i].id, sizeof lines[i].id);
    }
    return why;
}

static void open_devices(struct several *several)
{
    *several = (struct several){ .count = name_count, .all_count = name_count };
    CHECK_OK(mr_device_open("cpu", &cpu_options, &several->cpu));
    for (uint32_t i = 0; i < name_count; i++)
        CHECK_OK(mr_device_open(names[i], &cpu_options, &several->devices[i]));
    if (several->devices[0] != several->cpu)
        several->devices[several->all_count++] = several->cpu;
}

static void close_devices(struct several *several)
{
    for (uint32_t i = 0; i < several->count; i++)
        CHECK_OK(mr_device_close(several->devices[i]));
    CHECK_OK(mr_device_close(several->cpu));
}

void several_heal(struct several *several)
{
    close_devices(several);
    open_devices(several);
}

/* ---- broken devices ---- */

/* NULL on a real driver. */
static void (*find_stand_in(void))(int device, int code)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    void (*found)(int, int);
    if (!driver)
        return NULL;
    *(void **)&found = dlsym(driver, "fakecuda_break");
    dlclose(driver);
    return found;
}

void several_break(mr_device *device)
{
    const char *id = mr_device_id(device);
    CHECK_EQ(0, strncmp(id, "cuda:", 5));
    find_stand_in()(atoi(id + 5), LAUNCH_FAILED);
}

/* ---- tests ---- */

static bool is_wanted(const char *name, int count, char **names)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return count == 0;
}

static bool can_run(const struct several_test *test, const char *backend)
{
    const uint32_t count = name_count;
    const uint32_t all_count = count + (strcmp(backend, "cpu") != 0);
    const bool may_break = all_count > count && find_stand_in();
    const bool can = test->device_count <= count && test->all_count <= all_count &&
                     (may_break || !test->is_breaking_devices);
    if (!can)
        printf("not exercised with %u device%s of backend %s: %s\n", count, count == 1 ? "" : "s",
               backend, test->name);
    return can;
}

static void run_test(const struct several_test *test)
{
    struct several several;
    printf("%s\n", test->name);
    fflush(stdout);
    open_devices(&several);
    test->run(&several);
    close_devices(&several);
}

int several_main(int argc, char **argv, const struct several_test *tests, size_t count)
{
    if (argc < 3 || strcmp(argv[1], "--backend") != 0) {
        fprintf(stderr, "usage: %s --backend cpu|cuda [TEST...]\n", argv[0]);
        return 2;
    }
    const char *why = find_devices(argv[2]);
    if (!name_count) {
        printf("skipped: %s\n", why);
        return EXIT_SKIPPED;
    }
    size_t ran = 0, left_out = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_wanted(tests[i].name, argc - 3, argv + 3))
            continue;
        if (can_run(&tests[i], argv[2])) {
            run_test(&tests[i]);
            ran++;
        } else {
            left_out++;
        }
    }
    if (ran + left_out == 0)
        CHECK_FAIL("no test of that name");
    printf("%zu passed on %u device%s, %zu not exercised\n", ran, name_count,
           name_count == 1 ? "" : "s", left_out);
    return ran ? 0 : EXIT_SKIPPED;
}
