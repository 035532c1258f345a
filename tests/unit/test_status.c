/* SPDX-License-Identifier: MIT */
/* Names, phrases and words of statuses; the version. */
#include "support/unit.h"

#include "core/status.h"

#include <millrace/version.h>

#include <pthread.h>

static void every_status_has_a_name_and_a_phrase(void **state)
{
    (void)state;
    for (int status = MR_E_MISMATCH; status <= MR_END; status++) {
        assert_int_equal(strncmp(mr_status_name((mr_status)status), "MR_", 3), 0);
        assert_non_null(mr_status_text((mr_status)status));
    }
    assert_string_equal(mr_status_name(MR_E_TIMEOUT), "MR_E_TIMEOUT");
    assert_string_equal(mr_status_name((mr_status)-77), "unknown status");
}

static void set_keeps_words_and_returns_the_status(void **state)
{
    (void)state;
    assert_int_equal(mr_error_set(MR_E_IO, "file %s, line %d", "a.npy", 7), MR_E_IO);
    assert_string_equal(mr_last_error(), "file a.npy, line 7");
}

static void prefix_puts_words_in_front(void **state)
{
    (void)state;
    mr_error_set(MR_E_IO, "disk full");
    assert_int_equal(mr_error_prefix(MR_E_IO, "stage '%s': ", "median"), MR_E_IO);
    assert_string_equal(mr_last_error(), "stage 'median': disk full");
}

static void words_may_quote_the_words_before(void **state)
{
    (void)state;
    mr_error_set(MR_E_IO, "inner");
    mr_error_set(MR_E_IO, "outer (%s)", mr_last_error());
    assert_string_equal(mr_last_error(), "outer (inner)");
}

static void long_words_are_cut(void **state)
{
    char text[3000];
    (void)state;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    mr_error_set(MR_E_IO, "%s", text);
    assert_int_equal(strlen(mr_last_error()), MR_ERROR_BYTES - 1);
    mr_error_prefix(MR_E_IO, "%s", text);
    assert_int_equal(strlen(mr_last_error()), MR_ERROR_BYTES - 1);
    mr_error_prefix(MR_E_IO, "y");
    assert_int_equal(strlen(mr_last_error()), MR_ERROR_BYTES - 1);
    assert_int_equal(mr_last_error()[0], 'y');
}

static void *set_elsewhere(void *seen)
{
    *(bool *)seen = mr_last_error()[0] == '\0';
    mr_error_set(MR_E_BUSY, "of the other thread");
    return NULL;
}

static void words_belong_to_the_thread(void **state)
{
    pthread_t thread;
    bool was_empty = false;
    (void)state;
    mr_error_set(MR_E_IO, "mine");
    pthread_create(&thread, NULL, set_elsewhere, &was_empty);
    pthread_join(thread, NULL);
    assert_true(was_empty);
    assert_string_equal(mr_last_error(), "mine");
}

static void clear_forgets_the_words(void **state)
{
    (void)state;
    mr_error_set(MR_E_IO, "old");
    mr__error_clear();
    assert_string_equal(mr_last_error(), "");
}

static void version_agrees_with_its_text(void **state)
{
    char text[32];
    (void)state;
    const int version = mr_version();
    snprintf(text, sizeof text, "%d.%d.%d", version / 1000000, version / 1000 % 1000,
             version % 1000);
    assert_string_equal(mr_version_text(), text);
    assert_int_equal(version, MR_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_name_and_a_phrase),
        cmocka_unit_test(set_keeps_words_and_returns_the_status),
        cmocka_unit_test(prefix_puts_words_in_front),
        cmocka_unit_test(words_may_quote_the_words_before),
        cmocka_unit_test(long_words_are_cut),
        cmocka_unit_test(words_belong_to_the_thread),
        cmocka_unit_test(clear_forgets_the_words),
        cmocka_unit_test(version_agrees_with_its_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
