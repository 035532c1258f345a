/* SPDX-License-Identifier: MIT */
/*
 * Compiled code on disk: found under its key alone, and only whole.
 */
#include "backend/code_cache.h"
#include "base/alloc.h"
#include "support/random.h"
#include "support/unit.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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
    mr__code_cache_write(folder, &key, code, strlen(code));
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
    mr__code_cache_write(NULL, &key, "code", 4);
    mr__code_cache_write("/nowhere/at/all", &key, "code", 4);
    assert_null(mr__code_cache_read(NULL, &key, &size_bytes));
    assert_null(mr__code_cache_read("/nowhere/at/all", &key, &size_bytes));

    key.is_broken = true;
    mr__code_cache_write(folder, &key, "code", 4);
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
            mr__code_cache_write(folder, &key, code, CODE_BYTES - (size_t)child);
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
        cmocka_unit_test(source_that_includes_files_is_never_kept),
    };
    return cmocka_run_group_tests(tests, folder_create, folder_remove);
}
