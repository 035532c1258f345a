/* SPDX-License-Identifier: MIT */
/* Any text as a job file, loaded with all its checks on the CPU and never run. Keys that would open
 * files of the machine, load shared objects or call a compiler are left out: a job file is trusted
 * with those, and a fuzzer is not. */
#include <millrace/job.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void see_problem(void *context, const mr_job_problem *problem)
{
    size_t *count = context;
    (*count)++;
    if (!problem->text || !problem->text[0] || problem->status == MR_OK)
        abort();
}

/* `names` of things that reach outside, as they could stand in the text. */
static int reaches_outside(const char *text)
{
    static const char *const names[] = { "object", "kernel", "files", "stdin", "cuda", "\\" };
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
        if (strstr(text, names[k]))
            return 1;
    /* Images are looked for where the text says, in folders of folders. */
    return strstr(text, "vision") && strpbrk(text, "/*?.");
}

/* The text up to a line "%%"; every line after it is an override. */
static size_t split_overrides(char *text, const char **overrides, size_t limit)
{
    size_t count = 0;
    char *rest = strstr(text, "\n%%\n");
    if (!rest)
        return 0;
    *rest = 0;
    rest += 4;
    for (char *line = strtok(rest, "\n"); line && count < limit; line = strtok(NULL, "\n"))
        overrides[count++] = line;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 16384)
        return 0;
    char *text = malloc(size + 1);
    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = 0;
    if (reaches_outside(text)) {
        free(text);
        return 0;
    }

    size_t length = size, problem_count = 0;
    const char *overrides[8];
    const size_t override_count = split_overrides(text, overrides, 8);
    if (override_count || strlen(text) < size)
        length = strlen(text);
    const mr_job_options options = { .device = "cpu",
                                     .overrides = overrides,
                                     .override_count = override_count,
                                     .folder = "/nonexistent",
                                     .problem = see_problem,
                                     .context = &problem_count };
    mr_job *job;
    const mr_status status = mr_job_parse(text, length, "fuzz", &options, &job);
    if ((status == MR_OK) != (job != NULL) || (status == MR_OK) != (problem_count == 0))
        abort();
    if (job && (!mr_job_name(job)[0] || !mr_job_plan_text(job)[0]))
        abort();
    mr_job_destroy(job);
    free(text);
    return 0;
}
