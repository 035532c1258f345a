/* SPDX-License-Identifier: MIT */
/*
 * Other programs: found, run, heard and ended.
 */
#include "base/alloc.h"
#include "base/process.h"
#include "support/unit.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#define SECOND_NS UINT64_C(1000000000)

static struct mr__process_result run_shell(const char *script, uint64_t timeout_ns)
{
    char *const arguments[] = { "sh", "-c", (char *)(uintptr_t)script, NULL };
    return mr__process_run("/bin/sh", arguments, timeout_ns);
}

static void process_gives_output_and_exit_code(void **state)
{
    (void)state;
    const struct mr__process_result result =
        run_shell("echo one; echo two >&2; exit 3", SECOND_NS * 30);

    assert_int_equal(0, result.error);
    assert_int_equal(3, result.exit_code);
    assert_false(result.is_killed);
    assert_string_equal("one\ntwo\n", result.output);
    mr__free(result.output);
}

static void process_runs_in_english_without_input(void **state)
{
    (void)state;
    setenv("LC_ALL", "de_DE.UTF-8", 1);
    const struct mr__process_result result =
        run_shell("echo $LC_ALL; cat; trap - PIPE; kill -PIPE $$", SECOND_NS * 30);
    unsetenv("LC_ALL");

    assert_string_equal("C\n", result.output);
    assert_int_equal(128 + SIGPIPE, result.exit_code);
    mr__free(result.output);
}

static void process_output_is_cut_and_drained(void **state)
{
    (void)state;
    const struct mr__process_result result =
        run_shell("head -c 1000000 /dev/zero | tr '\\0' x", SECOND_NS * 30);

    assert_int_equal(0, result.exit_code);
    assert_int_equal(64 << 10, strlen(result.output));
    mr__free(result.output);
}

static void process_is_killed_with_its_children_when_time_is_over(void **state)
{
    bool has_begun = false;
    (void)state;
    /* A machine with much else to do may take long to get the shell as far as its first word. */
    for (uint64_t timeout_ns = SECOND_NS / 5; !has_begun; timeout_ns *= 2) {
        const struct mr__process_result result =
            run_shell("echo begun; sleep 1000 & sleep 1000", timeout_ns);

        assert_true(result.is_killed);
        assert_int_equal(128 + SIGKILL, result.exit_code);
        has_begun = strcmp("begun\n", result.output) == 0;
        mr__free(result.output);
    }
}

static void process_that_cannot_start_says_why(void **state)
{
    (void)state;
    char *const arguments[] = { "none", NULL };
    const struct mr__process_result result = mr__process_run("/nowhere/none", arguments, SECOND_NS);

    assert_int_equal(ENOENT, result.error);
    mr__free(result.output);
}

static void programs_are_found_in_path(void **state)
{
    (void)state;
    char *path;
    assert_int_equal(0, mr__process_find("sh", &path));
    assert_non_null(strstr(path, "/sh"));
    mr__free(path);
    assert_int_equal(0, mr__process_find("/bin/sh", &path));
    assert_string_equal("/bin/sh", path);
    mr__free(path);

    assert_int_equal(ENOENT, mr__process_find("no-such-program", &path));
    assert_null(path);
    assert_int_equal(ENOENT, mr__process_find("/etc/passwd", &path));
    mr__alloc_fail_at(1, 0);
    assert_int_equal(ENOMEM, mr__process_find("sh", &path));
    mr__alloc_fail_at(0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(process_gives_output_and_exit_code),
        cmocka_unit_test(process_runs_in_english_without_input),
        cmocka_unit_test(process_output_is_cut_and_drained),
        cmocka_unit_test(process_is_killed_with_its_children_when_time_is_over),
        cmocka_unit_test(process_that_cannot_start_says_why),
        cmocka_unit_test(programs_are_found_in_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
