/* SPDX-License-Identifier: MIT */
/* The CUDA backend on a machine without a driver. */
#include "support/unit.h"

#include "backend/backend.h"

#include <dlfcn.h>

static void a_missing_driver_is_unavailable_with_the_remedy(void **state)
{
    (void)state;
    struct mr_backend *backend;
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY);
    if (driver)
        skip();

    assert_status(MR_E_UNAVAILABLE, mr__cuda_backend.open(&backend));

    assert_null(backend);
    assert_words("libcuda.so.1 was not found");
    assert_words("install the NVIDIA driver");
    assert_words("\"cpu\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_driver_is_unavailable_with_the_remedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
