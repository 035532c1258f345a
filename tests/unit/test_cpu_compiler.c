/* SPDX-License-Identifier: MIT */
/*
 * Portable source on the CPU: which compiler is called and how often, what is kept, and what happens
 * when anything on the way is missing, damaged, or out of memory.
 */
#include "support/fault.h"
#include "support/unit.h"

#include <millrace/kernel.h>

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64]; /* holds a compiler that counts its calls, and the cache */
static char cache[80], calls[80], original_path[4096];

static const char source[] = "#include <millrace/portable.h>\n"
                             "MR_KERNEL(fill, MR_OUT(float, target), MR_VALUE(uint64_t, count))\n"
                             "{\n"
                             "    MR_EACH (i, count)\n"
                             "        target[i] = 1.5f;\n"
                             "}\n";

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(0, fclose(file));
}

/* A folder with a script that stands in for the compiler, and an empty cache. */
static int begin(void **state)
{
    (void)state;
    char compiler[80], script[200];
    snprintf(folder, sizeof folder, "/tmp/millrace-compiler-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(cache, sizeof cache, "%s/cache", folder);
    snprintf(calls, sizeof calls, "%s/calls", folder);
    snprintf(compiler, sizeof compiler, "%s/compiler", folder);
    snprintf(script, sizeof script, "#!/bin/sh\necho called >>%s\nexec cc \"$@\"\n", calls);
    write_text(compiler, script);
    chmod(compiler, 0755);
    setenv("CC", compiler, 1);
    assert_ok(mr_kernel_cache_set(cache));
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[80];
    setenv("PATH", original_path, 1);
    unsetenv("CC");
    unsetenv("TMPDIR");
    assert_ok(mr_kernel_cache_set(NULL));
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static int call_count(void)
{
    int count = 0;
    FILE *file = fopen(calls, "r");
    for (int c; file && (c = fgetc(file)) != EOF;)
        count += c == '\n';
    if (file)
        fclose(file);
    return count;
}

static mr_status make_with(const mr_kernel_options *options)
{
    mr_device *device;
    mr_kernel *kernel;
    assert_ok(mr_device_open("cpu", &(mr_device_options){ .worker_count = 1 }, &device));
    const mr_status status = mr_kernel_create(device, options, &kernel);
    assert_int_equal(status == MR_OK, kernel != NULL);
    mr_kernel_destroy(kernel);
    assert_ok(mr_device_close(device));
    return status;
}

static mr_status make(const char *text, const char *flags)
{
    return make_with(&(mr_kernel_options){ .name = "fill", .source = text, .flags = flags });
}

/* Calls `change` for each entry of the cache; the number of them. */
static int each_entry(void (*change)(const char *path))
{
    int count = 0;
    DIR *listing = opendir(cache);
    for (const struct dirent *entry; listing && (entry = readdir(listing));) {
        char path[400];
        if (*entry->d_name == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", cache, entry->d_name);
        if (change)
            change(path);
        count++;
    }
    if (listing)
        closedir(listing);
    return count;
}

static void cut_in_half(const char *path)
{
    struct stat status;
    assert_int_equal(0, stat(path, &status));
    assert_int_equal(0, truncate(path, status.st_size / 2));
}

static void overwrite(const char *path)
{
    write_text(path, "not compiled code at all");
}

/* ---- the cache ---- */

static void source_is_compiled_once(void **state)
{
    (void)state;
    struct stat status;
    assert_ok(make(source, NULL));
    assert_ok(make(source, NULL));

    assert_int_equal(1, call_count());
    assert_int_equal(1, each_entry(NULL));
    assert_int_equal(0, stat(cache, &status));
    assert_int_equal(0700, status.st_mode & 0777);
}

static void other_source_flags_or_compiler_are_compiled_anew(void **state)
{
    (void)state;
    char compiler[80], script[200];
    assert_ok(make(source, NULL));
    assert_ok(make(source, "-DX=1"));
    assert_ok(make("#include <millrace/portable.h>\n"
                   "MR_KERNEL(fill, MR_OUT(float, target)) { target[0] = 1; }\n",
                   NULL));
    assert_int_equal(3, call_count());

    snprintf(compiler, sizeof compiler, "%s/compiler", folder);
    snprintf(script, sizeof script, "#!/bin/sh\necho other >>%s\nexec cc -O1 \"$@\"\n", calls);
    write_text(compiler, script);
    assert_ok(make(source, NULL));
    assert_int_equal(4, call_count());
}

static void damaged_code_is_compiled_again(void **state)
{
    (void)state;
    assert_ok(make(source, NULL));
    assert_int_equal(1, each_entry(cut_in_half));
    assert_ok(make(source, NULL));
    assert_int_equal(2, call_count());

    assert_int_equal(1, each_entry(overwrite));
    assert_ok(make(source, NULL));
    assert_ok(make(source, NULL));
    assert_int_equal(3, call_count());
}

static void kernels_without_a_cache_are_compiled_every_time(void **state)
{
    (void)state;
    const mr_kernel_options options = { .name = "fill", .source = source, .is_cache_off = true };
    assert_ok(make_with(&options));
    assert_ok(make_with(&options));

    assert_int_equal(2, call_count());
    assert_int_equal(0, each_entry(NULL));
}

static void a_folder_that_is_not_safe_is_not_used(void **state)
{
    (void)state;
    assert_int_equal(0, mkdir(cache, 0700));
    assert_int_equal(0, chmod(cache, 0777));
    assert_ok(make(source, NULL));
    assert_ok(make(source, NULL));
    assert_int_equal(2, call_count());
    assert_int_equal(0, each_entry(NULL));

    assert_ok(mr_kernel_cache_set("/proc/nowhere"));
    assert_ok(make(source, NULL));
    assert_ok(mr_kernel_cache_set("relative"));
    assert_ok(make(source, NULL));
    assert_int_equal(4, call_count());
}

static void included_files_are_looked_at_every_time(void **state)
{
    (void)state;
    char header[80], path[80];
    snprintf(header, sizeof header, "%s/value.h", folder);
    snprintf(path, sizeof path, "%s/fill.c", folder);
    write_text(header, "#define VALUE 1\n");
    write_text(path, "#include <millrace/portable.h>\n#include \"value.h\"\n"
                     "MR_KERNEL(fill, MR_OUT(float, target)) { target[0] = VALUE; }\n");
    const mr_kernel_options options = { .name = "fill", .path = path };
    assert_ok(make_with(&options));

    write_text(header, "#define VALUE missing\n");
    assert_status(MR_E_COMPILE, make_with(&options));
    assert_words("value.h:1:");
    assert_words("missing");
    assert_int_equal(2, call_count());
}

static void processes_compile_the_same_source_at_once(void **state)
{
    (void)state;
    enum { CHILDREN = 3 };
    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        if (children[i] == 0)
            _exit(make(source, NULL) ? 1 : 0);
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        assert_int_equal(children[i], waitpid(children[i], &status, 0));
        assert_int_equal(0, status);
    }
    assert_int_equal(1, each_entry(NULL));
    const int before = call_count();
    assert_ok(make(source, NULL));
    assert_int_equal(before, call_count());
}

static void the_default_folder_follows_the_environment(void **state)
{
    (void)state;
    struct stat status;
    char path[120];
    assert_ok(mr_kernel_cache_set(NULL));
    snprintf(path, sizeof path, "%s/named", folder);
    setenv("MILLRACE_CACHE", path, 1);
    assert_ok(make(source, NULL));
    unsetenv("MILLRACE_CACHE");
    assert_int_equal(0, stat(path, &status));

    setenv("XDG_CACHE_HOME", folder, 1);
    assert_ok(make(source, NULL));
    unsetenv("XDG_CACHE_HOME");
    snprintf(path, sizeof path, "%s/millrace", folder);
    assert_int_equal(0, stat(path, &status));
}

/* ---- the compiler ---- */

static void a_missing_compiler_is_said_with_the_remedy(void **state)
{
    (void)state;
    setenv("CC", "no-such-compiler -O2", 1);
    assert_status(MR_E_UNAVAILABLE, make(source, NULL));
    assert_words("'no-such-compiler -O2', is not here; install it or unset CC");

    unsetenv("CC");
    setenv("PATH", folder, 1);
    assert_status(MR_E_UNAVAILABLE, make(source, NULL));
    assert_words("neither cc, gcc nor clang is in $PATH; install one");
}

static void a_compiler_may_have_words_of_its_own(void **state)
{
    (void)state;
    char words[100];
    snprintf(words, sizeof words, " %s/compiler  -O1 ", folder);
    setenv("CC", words, 1);
    assert_ok(make(source, "  -DA=1\t-DB=2 "));
    assert_int_equal(1, call_count());
}

static void clang_is_as_good(void **state)
{
    (void)state;
    if (system("command -v clang >/dev/null 2>&1"))
        skip();
    setenv("CC", "clang", 1);
    assert_ok(make(source, NULL));
    assert_status(MR_E_COMPILE, make("#include <millrace/portable.h>\n"
                                     "MR_KERNEL(fill, MR_OUT(float, target))\n"
                                     "{\n    target[0] = nothing;\n}\n",
                                     NULL));
    assert_words("<memory>:4:");
}

static void a_compiler_that_fails_without_words_is_said(void **state)
{
    (void)state;
    setenv("CC", "false", 1);
    assert_status(MR_E_COMPILE, make(source, NULL));
    assert_words("the compiler said nothing and ended with 1");

    setenv("CC", "true", 1);
    assert_status(MR_E_COMPILE, make(source, NULL));
    assert_words("the compiler said nothing and made nothing");
}

static void a_folder_for_compiling_must_be_there(void **state)
{
    (void)state;
    setenv("TMPDIR", "/nowhere", 1);
    assert_status(MR_E_IO, make(source, NULL));
    assert_words("no folder can be made in /nowhere");
    assert_words("set TMPDIR to one that is yours");
}

static void nothing_is_left_in_the_folder_for_compiling(void **state)
{
    (void)state;
    char path[80];
    snprintf(path, sizeof path, "%s/work", folder);
    assert_int_equal(0, mkdir(path, 0700));
    setenv("TMPDIR", path, 1);
    assert_ok(make(source, NULL));
    assert_status(MR_E_COMPILE, make("nonsense", NULL));

    assert_int_equal(0, rmdir(path));
}

static void flags_beyond_the_limit_are_refused(void **state)
{
    (void)state;
    char flags[2000] = "";
    for (int i = 0; i < 200; i++)
        strcat(flags, "-DX=1 ");
    assert_status(MR_E_INVALID, make(source, flags));
    assert_words("shorten the flags");
}

/* ---- memory ---- */

enum { COUNT = 100 };

/* Everything once, on a device that is open. */
static mr_status use_kernels(mr_device *device, mr_stream *stream, mr_buffer *buffer,
                             struct fault *fault)
{
    const mr_argument arguments[] = { mr_argument_buffer(buffer), mr_argument_u64(COUNT) };
    mr_kernel *compiled = NULL, *embedded = NULL;
    mr_status status = mr_kernel_open(device, "copy_u8", &embedded);
    if (!status)
        status = mr_kernel_create(device, &(mr_kernel_options){ .name = "fill", .source = source },
                                  &compiled);
    if (!status)
        status = mr_kernel_launch(stream, compiled, &(mr_launch){ .count = COUNT }, arguments, 2);
    fault_stop(fault);
    if (!status)
        assert_ok(mr_stream_wait(stream));
    mr_kernel_destroy(compiled);
    mr_kernel_destroy(embedded);
    return status;
}

static void kernels_survive_any_allocation_that_fails(void **state)
{
    (void)state;
    mr_device *device;
    mr_stream *stream;
    mr_buffer *buffer;
    assert_ok(mr_device_open("cpu", NULL, &device));
    assert_ok(mr_stream_create(device, NULL, &stream));
    assert_ok(mr_buffer_create(device, COUNT * 4, NULL, &buffer));
    assert_ok(use_kernels(device, stream, buffer, &(struct fault){ .kind = &fault_allocation }));

    for (int is_lasting = 0; is_lasting < 2; is_lasting++) {
        struct fault fault = { .kind = &fault_allocation,
                               .expected = MR_E_NO_MEMORY,
                               .is_lasting = is_lasting };
        /* Compiling goes on without memory for the cache; when that lasts, every round compiles. */
        fault.step = is_lasting ? 5 : 1;
        while (fault_next(&fault)) {
            fault_begin(&fault);
            const mr_status status = use_kernels(device, stream, buffer, &fault);
            fault_end(&fault, status);
        }
        assert_true(fault.nth > 20);
    }
    mr_buffer_destroy(buffer);
    mr_stream_destroy(stream);
    assert_ok(mr_device_close(device));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(source_is_compiled_once),
        TEST(other_source_flags_or_compiler_are_compiled_anew),
        TEST(damaged_code_is_compiled_again),
        TEST(kernels_without_a_cache_are_compiled_every_time),
        TEST(a_folder_that_is_not_safe_is_not_used),
        TEST(included_files_are_looked_at_every_time),
        TEST(processes_compile_the_same_source_at_once),
        TEST(the_default_folder_follows_the_environment),
        TEST(a_missing_compiler_is_said_with_the_remedy),
        TEST(a_compiler_may_have_words_of_its_own),
        TEST(clang_is_as_good),
        TEST(a_compiler_that_fails_without_words_is_said),
        TEST(a_folder_for_compiling_must_be_there),
        TEST(nothing_is_left_in_the_folder_for_compiling),
        TEST(flags_beyond_the_limit_are_refused),
        TEST(kernels_survive_any_allocation_that_fails),
    };
    snprintf(original_path, sizeof original_path, "%s", getenv("PATH"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
