/* SPDX-License-Identifier: MIT */
/* A fresh folder for each test, files in it, and jobs from text with their problems collected. */
#include "job_fixture.h"

#include <dirent.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

char problems[16384];
size_t problem_count;

static char folder[64];

int fixture_enter(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/millrace-job-XXXXXX");
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *facts, int kind, struct FTW *where)
{
    (void)facts;
    (void)kind;
    (void)where;
    return remove(path);
}

int fixture_leave(void **state)
{
    (void)state;
    if (chdir("/"))
        return -1;
    return nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void write_file(const char *path, const void *bytes, size_t size_bytes)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(size_bytes, fwrite(bytes, 1, size_bytes, file));
    assert_int_equal(0, fclose(file));
}

void write_text(const char *path, const char *text)
{
    write_file(path, text, strlen(text));
}

void *read_file(const char *path, size_t *size_bytes)
{
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("no file %s", path);
    struct stat facts;
    assert_int_equal(0, fstat(fileno(file), &facts));
    *size_bytes = (size_t)facts.st_size;
    char *bytes = calloc(1, *size_bytes + 1);
    assert_non_null(bytes);
    assert_int_equal(*size_bytes, fread(bytes, 1, *size_bytes, file));
    fclose(file);
    return bytes;
}

bool has_file(const char *path)
{
    return access(path, F_OK) == 0;
}

size_t count_files(const char *path)
{
    DIR *entries = opendir(path);
    assert_non_null(entries);
    size_t count = 0;
    for (const struct dirent *entry; (entry = readdir(entries));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(entries);
    return count;
}

static void put_number(mr_type type, void *data, size_t k, uint64_t value)
{
    switch (mr_type_size(type)) {
    case 1:
        ((uint8_t *)data)[k] = (uint8_t)value;
        break;
    case 2:
        ((uint16_t *)data)[k] = (uint16_t)value;
        break;
    case 4:
        if (type == MR_TYPE_F32)
            ((float *)data)[k] = (float)value * 0.37f;
        else
            ((uint32_t *)data)[k] = (uint32_t)value;
        break;
    default:
        if (type == MR_TYPE_F64)
            ((double *)data)[k] = (double)value * 0.37;
        else
            ((uint64_t *)data)[k] = value;
        break;
    }
}

void write_stack(const char *path, mr_type type, uint64_t count, uint64_t height, uint64_t width,
                 uint64_t step)
{
    const struct mr__item_type item = { .dtype = type, .rank = 2, .shape = { height, width } };
    const size_t elements = count * height * width, size = mr_type_size(type);
    char *bytes = calloc(1, MR__NPY_WRITTEN_BYTES + elements * size);
    assert_non_null(bytes);
    mr__npy_format(&item, count, bytes);
    for (size_t k = 0; k < elements; k++)
        put_number(type, bytes + MR__NPY_WRITTEN_BYTES, k, k * step);
    write_file(path, bytes, MR__NPY_WRITTEN_BYTES + elements * size);
    free(bytes);
}

static void collect(void *context, const mr_job_problem *problem)
{
    (void)context;
    const size_t used = strlen(problems);
    snprintf(problems + used, sizeof problems - used, "%s\n", problem->text);
    problem_count++;
}

mr_status try_job(const char *text, const char *const *overrides, mr_job **out)
{
    problems[0] = 0;
    problem_count = 0;
    const char *device = getenv("JOB_DEVICE"); /* the tests run on a stand-in GPU too */
    mr_job_options options = { .device = device ? device : "cpu",
                               .overrides = overrides,
                               .problem = collect };
    while (overrides && overrides[options.override_count])
        options.override_count++;
    return mr_job_parse(text, strlen(text), "job.yaml", &options, out);
}

mr_job *load_job(const char *text)
{
    mr_job *job;
    const mr_status status = try_job(text, NULL, &job);
    if (status)
        fail_msg("%s: %s\n%s", mr_status_name(status), mr_last_error(), problems);
    return job;
}

mr_status run_job(const char *text, const mr_job_run_options *options)
{
    mr_job *job = load_job(text);
    const mr_status status = mr_job_run(job, options);
    mr_job_destroy(job);
    return status;
}

void run_verified(const char *text)
{
    assert_ok(run_job(text, &(mr_job_run_options){ .is_verified = true }));
}

void expect_problem(const char *text, mr_status status, const char *words)
{
    mr_job *job;
    const mr_status got = try_job(text, NULL, &job);
    if (got != status)
        fail_msg("expected %s, got %s: %s\nfor %s", mr_status_name(status), mr_status_name(got),
                 mr_last_error(), text);
    assert_null(job);
    if (!strstr(problems, words))
        fail_msg("expected \"%s\" in:\n%s", words, problems);
    assert_true(mr_last_error()[0]);
}
