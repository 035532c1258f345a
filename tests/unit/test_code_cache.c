/* SPDX-License-Identifier: MIT */
/*
 * Compiled code on disk: found under its key alone, and only whole.
 */
#include "backend/code_cache.h"
#include "base/alloc.h"
#include "core/kernel.h"
#include "support/fault.h"
#include "support/random.h"
#include "support/unit.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT (UINT64_C(1) << 30)

static char folder[64];

static int folder_create(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/millrace-cache-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int folder_empty(void **state)
{
    (void)state;
    DIR *listing = opendir(folder);
    assert_non_null(listing);
    for (const struct dirent *entry; (entry = readdir(listing));)
        unlinkat(dirfd(listing), entry->d_name, 0);
    closedir(listing);
    return 0;
}

static int folder_remove(void **state)
{
    folder_empty(state);
    return rmdir(folder);
}

/* The one file of the folder; its name in `path`. Fails when there is not exactly one. */
static void find_entry(char path[static 512])
{
    int count = 0;
    DIR *listing = opendir(folder);
    assert_non_null(listing);
    for (const struct dirent *entry; (entry = readdir(listing));) {
        if (*entry->d_name == '.')
            continue;
        snprintf(path, 512, "%s/%s", folder, entry->d_name);
        count++;
    }
    closedir(listing);
    assert_int_equal(1, count);
}

static struct mr__code_key make_key(const char *first, const char *second)
{
    struct mr__code_key key = { 0 };
    mr__code_key_add_text(&key, first);
    mr__code_key_add_text(&key, second);
    return key;
}

static void write_code(const char *first, const char *second, const char *code)
{
    struct mr__code_key key = make_key(first, second);
    mr__code_cache_write(folder, &key, code, strlen(code), LIMIT);
    mr__code_key_fini(&key);
}

/* NULL expects nothing. */
static void expect_code(const char *first, const char *second, const char *expected)
{
    struct mr__code_key key = make_key(first, second);
    size_t size_bytes;
    char *code = mr__code_cache_read(folder, &key, &size_bytes);
    if (expected) {
        assert_non_null(code);
        assert_int_equal(strlen(expected), size_bytes);
        assert_string_equal(expected, code);
    } else {
        assert_null(code);
        assert_int_equal(0, size_bytes);
    }
    mr__free(code);
    mr__code_key_fini(&key);
}

static void code_is_found_under_its_own_key_alone(void **state)
{
    (void)state;
    expect_code("source", "flags", NULL);

    write_code("source", "flags", "code");
    write_code("source2", "flags", "other code");

    expect_code("source", "flags", "code");
    expect_code("source2", "flags", "other code");
    expect_code("sourcef", "lags", NULL);
    expect_code("source", "", NULL);
    expect_code("source", NULL, NULL);
}

static void code_is_replaced_by_the_newest(void **state)
{
    (void)state;
    write_code("source", "flags", "code");
    write_code("source", "flags", "new code");

    expect_code("source", "flags", "new code");
    char path[512];
    find_entry(path);
}

static void no_folder_means_no_code(void **state)
{
    (void)state;
    struct mr__code_key key = make_key("a", "b");
    size_t size_bytes;
    mr__code_cache_write(NULL, &key, "code", 4, LIMIT);
    mr__code_cache_write("/nowhere/at/all", &key, "code", 4, LIMIT);
    assert_null(mr__code_cache_read(NULL, &key, &size_bytes));
    assert_null(mr__code_cache_read("/nowhere/at/all", &key, &size_bytes));

    key.is_broken = true;
    mr__code_cache_write(folder, &key, "code", 4, LIMIT);
    assert_null(mr__code_cache_read(folder, &key, &size_bytes));
    mr__code_key_fini(&key);
}

static size_t read_file(const char *path, unsigned char *bytes, size_t limit)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t size_bytes = fread(bytes, 1, limit, file);
    fclose(file);
    return size_bytes;
}

static void write_file(const char *path, const unsigned char *bytes, size_t size_bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(size_bytes, fwrite(bytes, 1, size_bytes, file));
    assert_int_equal(0, fclose(file));
}

static void damage_anywhere_is_noticed(void **state)
{
    (void)state;
    unsigned char bytes[1024];
    char path[512];
    write_code("source", "flags", "code");
    find_entry(path);
    const size_t size_bytes = read_file(path, bytes, sizeof bytes);
    assert_true(size_bytes > 50 && size_bytes < sizeof bytes);

    for (size_t i = 0; i < size_bytes; i++) {
        bytes[i] ^= 1 << i % 8;
        write_file(path, bytes, size_bytes);
        expect_code("source", "flags", NULL);
        bytes[i] ^= 1 << i % 8;
    }
    for (size_t shorter = 0; shorter < size_bytes; shorter++) {
        write_file(path, bytes, shorter);
        expect_code("source", "flags", NULL);
    }
    write_file(path, bytes, size_bytes + 1);
    expect_code("source", "flags", NULL);

    write_file(path, bytes, size_bytes);
    expect_code("source", "flags", "code");
    write_file(path, bytes, 3);
    write_code("source", "flags", "mended");
    expect_code("source", "flags", "mended");
}

static void what_others_could_have_written_is_not_used(void **state)
{
    (void)state;
    char path[512], elsewhere[600];
    write_code("source", "flags", "code");
    find_entry(path);

    chmod(path, 0666);
    expect_code("source", "flags", NULL);
    chmod(path, 0600);
    expect_code("source", "flags", "code");

    snprintf(elsewhere, sizeof elsewhere, "%s.elsewhere", path);
    assert_int_equal(0, rename(path, elsewhere));
    assert_int_equal(0, symlink(elsewhere, path));
    expect_code("source", "flags", NULL);
}

/* Writers and readers of one entry in several processes: a reader sees nothing or the whole. */
static void processes_share_the_folder(void **state)
{
    (void)state;
    enum { CHILDREN = 4, ROUNDS = 100, CODE_BYTES = 30000 };
    struct mr__code_key key = make_key("source", "flags");
    pid_t children[CHILDREN];
    for (int child = 0; child < CHILDREN; child++) {
        children[child] = fork();
        if (children[child])
            continue;
        char *code = malloc(CODE_BYTES);
        for (int round = 0; round < ROUNDS && code; round++) {
            size_t size_bytes;
            memset(code, 'a' + child, CODE_BYTES);
            mr__code_cache_write(folder, &key, code, CODE_BYTES - (size_t)child, LIMIT);
            char *found = mr__code_cache_read(folder, &key, &size_bytes);
            if (!found || size_bytes + (size_t)(*found - 'a') != CODE_BYTES ||
                found[size_bytes - 1] != *found)
                _exit(1);
            mr__free(found);
        }
        _exit(code ? 0 : 2);
    }
    for (int child = 0; child < CHILDREN; child++) {
        int status;
        assert_int_equal(children[child], waitpid(children[child], &status, 0));
        assert_true(WIFEXITED(status));
        assert_int_equal(0, WEXITSTATUS(status));
    }
    char path[512];
    find_entry(path);
    mr__code_key_fini(&key);
}

/* ---- trimming ---- */

enum { ENTRY_BYTES = 1000 }; /* of an entry's whole file */

static void write_entry(const char *name, uint64_t limit_bytes)
{
    static char code[ENTRY_BYTES];
    struct mr__code_key key = make_key(name, "");
    const size_t head_bytes = 48 + key.size_bytes;
    mr__code_cache_write(folder, &key, code, ENTRY_BYTES - head_bytes, limit_bytes);
    mr__code_key_fini(&key);
}

static bool has_entry(const char *name)
{
    struct mr__code_key key = make_key(name, "");
    size_t size_bytes;
    void *code = mr__code_cache_read(folder, &key, &size_bytes);
    mr__free(code);
    mr__code_key_fini(&key);
    return code != NULL;
}

/* Makes all that is there look as if it had been used so many seconds earlier. */
static void age_all(int seconds)
{
    DIR *listing = opendir(folder);
    assert_non_null(listing);
    for (const struct dirent *entry; (entry = readdir(listing));) {
        struct stat status;
        assert_int_equal(0, fstatat(dirfd(listing), entry->d_name, &status, 0));
        if (!S_ISREG(status.st_mode))
            continue;
        const struct timespec times[2] = { { .tv_sec = status.st_mtime - seconds },
                                           { .tv_sec = status.st_mtime - seconds } };
        assert_int_equal(0, utimensat(dirfd(listing), entry->d_name, times, 0));
    }
    closedir(listing);
}

static void what_was_used_longest_ago_goes_first(void **state)
{
    (void)state;
    const char *const names[] = { "a", "b", "c", "d" };
    for (int i = 0; i < 4; i++) {
        write_entry(names[i], LIMIT);
        age_all(10);
    }
    assert_true(has_entry("a")); /* and is used now */
    age_all(10);

    write_entry("e", 3 * ENTRY_BYTES);

    assert_true(has_entry("a"));
    assert_false(has_entry("b"));
    assert_false(has_entry("c"));
    assert_true(has_entry("d"));
    assert_true(has_entry("e"));
}

static void what_is_just_written_stays(void **state)
{
    (void)state;
    write_entry("a", ENTRY_BYTES);
    write_entry("b", ENTRY_BYTES);
    assert_false(has_entry("a"));
    assert_true(has_entry("b"));
    write_entry("c", ENTRY_BYTES - 1); /* would not fit even alone */
    assert_false(has_entry("c"));
    assert_true(has_entry("b"));
}

static void trimming_leaves_what_is_not_its_own(void **state)
{
    (void)state;
    char path[128], orphan[160];
    snprintf(path, sizeof path, "%s/notes", folder);
    write_file(path, (const unsigned char *)"mine", 4);
    snprintf(orphan, sizeof orphan, "%s/0123456789abcdef0123456789abcdef.1.1.new", folder);
    write_file(orphan, (const unsigned char *)"half", 4);
    write_entry("a", ENTRY_BYTES);
    assert_int_equal(0, access(orphan, F_OK)); /* somebody may be writing it */

    age_all(4000);
    write_entry("b", ENTRY_BYTES);

    assert_false(has_entry("a"));
    assert_int_equal(0, access(path, F_OK));
    assert_int_equal(-1, access(orphan, F_OK));
}

static void trimming_survives_no_memory(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_allocation };
    while (fault_next(&fault)) {
        write_entry("a", LIMIT);
        fault_begin(&fault);
        mr__code_cache_trim(folder, "", 0);
        fault_end(&fault, MR_OK);
        assert_true(has_entry("a") == fault.has_failed);
    }
}

/* Several processes fill and trim one folder: whoever finds an entry finds the whole of it. */
static void processes_trim_the_folder_together(void **state)
{
    (void)state;
    enum { CHILDREN = 4, ROUNDS = 200, NAMES = 10 };
    pid_t children[CHILDREN];
    for (int child = 0; child < CHILDREN; child++) {
        children[child] = fork();
        if (children[child])
            continue;
        for (int round = 0; round < ROUNDS; round++) {
            const char name[2] = { (char)('a' + (round * 7 + child) % NAMES), 0 };
            write_entry(name, 4 * ENTRY_BYTES);
            (void)has_entry(name);
        }
        _exit(0);
    }
    for (int child = 0; child < CHILDREN; child++) {
        int status;
        assert_int_equal(children[child], waitpid(children[child], &status, 0));
        assert_int_equal(0, status);
    }
    write_entry("z", 4 * ENTRY_BYTES);
    int count = 0;
    for (char name[2] = "a"; *name < 'a' + NAMES; ++*name)
        count += has_entry(name);
    assert_true(has_entry("z"));
    assert_true(count <= 3);
}

static void limit_comes_from_the_program_or_its_environment(void **state)
{
    (void)state;
    const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        { NULL, LIMIT },   { "", LIMIT },        { "5000", 5000 }, { "7K", 7 << 10 },
        { "3M", 3 << 20 }, { "2T", 2ull << 40 }, { "0", LIMIT },   { "-1", LIMIT },
        { "many", LIMIT }, { "1Kx", LIMIT },     { "12X", LIMIT }, { "99999999T", UINT64_MAX },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].text)
            setenv("MILLRACE_CACHE_LIMIT", cases[i].text, 1);
        assert_true(cases[i].bytes == mr__kernel_cache_limit());
    }
    mr_kernel_cache_limit(123);
    assert_int_equal(123, mr__kernel_cache_limit());
    mr_kernel_cache_limit(0);
    unsetenv("MILLRACE_CACHE_LIMIT");
    assert_true(mr__kernel_cache_limit() == LIMIT);
}

static void source_that_includes_files_is_never_kept(void **state)
{
    (void)state;
    assert_true(mr__code_is_self_contained("int a;\n", NULL));
    assert_true(mr__code_is_self_contained("#include <millrace/portable.h>\n#include <math.h>",
                                           "-O2  -DX=1\t-Wall"));
    assert_true(mr__code_is_self_contained("int included;\n#define include 1\n", ""));
    assert_false(mr__code_is_self_contained("#include \"mine.h\"\n", NULL));
    assert_false(mr__code_is_self_contained("int a;\n \t# include \"mine.h\"", NULL));
    assert_false(mr__code_is_self_contained("#include </home/me/mine.h>\n", NULL));
    assert_false(mr__code_is_self_contained("#define M \"mine.h\"\n#include M\n", NULL));
    assert_false(mr__code_is_self_contained("#include_next \"mine.h\"", NULL));
    assert_false(mr__code_is_self_contained("#import <mine.h>", NULL));
    assert_false(mr__code_is_self_contained("int a;", "-O2 -Ihere"));
    assert_false(mr__code_is_self_contained("int a;", "-include mine.h"));
    assert_false(mr__code_is_self_contained("int a;", "--include-path=here"));
    assert_false(mr__code_is_self_contained("int a;", "@options"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(code_is_found_under_its_own_key_alone, folder_empty),
        cmocka_unit_test_teardown(code_is_replaced_by_the_newest, folder_empty),
        cmocka_unit_test_teardown(no_folder_means_no_code, folder_empty),
        cmocka_unit_test_teardown(damage_anywhere_is_noticed, folder_empty),
        cmocka_unit_test_teardown(what_others_could_have_written_is_not_used, folder_empty),
        cmocka_unit_test_teardown(processes_share_the_folder, folder_empty),
        cmocka_unit_test_teardown(what_was_used_longest_ago_goes_first, folder_empty),
        cmocka_unit_test_teardown(what_is_just_written_stays, folder_empty),
        cmocka_unit_test_teardown(trimming_leaves_what_is_not_its_own, folder_empty),
        cmocka_unit_test_teardown(trimming_survives_no_memory, folder_empty),
        cmocka_unit_test_teardown(processes_trim_the_folder_together, folder_empty),
        cmocka_unit_test(limit_comes_from_the_program_or_its_environment),
        cmocka_unit_test(source_that_includes_files_is_never_kept),
    };
    return cmocka_run_group_tests(tests, folder_create, folder_remove);
}
