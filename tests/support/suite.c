/* SPDX-License-Identifier: MIT */
/*
 * Runs tests on a device that it opens and closes around each.
 */
#include "support/suite.h"

#include "support/check.h"

enum { EXIT_SKIPPED = 77 };

static int is_wanted(const char *name, int count, char **names)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0)
            return 1;
    }
    return count == 0;
}

static int is_skipped(const char *backend, const mr_device_options *options)
{
    mr_device *device = NULL;
    const mr_status status = mr_device_open(backend, options, &device);
    if (status == MR_E_UNAVAILABLE) {
        printf("skipped: %s\n", mr_last_error());
        return 1;
    }
    CHECK_OK(status);
    CHECK_OK(mr_device_close(device));
    return 0;
}

int suite_main(int argc, char **argv, const mr_device_options *options,
               const struct suite_test *tests, size_t count)
{
    if (argc < 3 || strcmp(argv[1], "--backend") != 0) {
        fprintf(stderr, "usage: %s --backend DEVICE [TEST...]\n", argv[0]);
        return 2;
    }
    const char *backend = argv[2];
    if (is_skipped(backend, options))
        return EXIT_SKIPPED;

    size_t ran = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_wanted(tests[i].name, argc - 3, argv + 3))
            continue;
        printf("%s\n", tests[i].name);
        fflush(stdout);
        mr_device *device = NULL;
        CHECK_OK(mr_device_open(backend, options, &device));
        tests[i].run(device);
        CHECK_OK(mr_device_close(device));
        ran++;
    }
    if (ran == 0)
        CHECK_FAIL("no test of that name");
    printf("%zu passed\n", ran);
    return 0;
}

int suite_main_beside_cpu(int argc, char **argv, const struct suite_test *tests, size_t count,
                          mr_device **cpu)
{
    CHECK_OK(mr_device_open("cpu", NULL, cpu));
    const int status = suite_main(argc, argv, NULL, tests, count);
    CHECK_OK(mr_device_close(*cpu));
    return status;
}
