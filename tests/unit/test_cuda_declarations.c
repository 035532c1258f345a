/* SPDX-License-Identifier: MIT */
/* The backend's own declarations of the driver against the toolkit's header, where there is one. */
#include "cuda_declarations.h"
#include "support/unit.h"

#include "backend/cuda/cuda_driver.h"

const struct declaration declarations_of_ours[] = {
#include "cuda_declarations.inc"
    { NULL, 0 }
};

static void our_declarations_equal_the_toolkits(void **state)
{
    (void)state;
    for (size_t i = 0; declarations_of_ours[i].name; i++)
        if (declarations_of_ours[i].number != declarations_of_theirs[i].number)
            fail_msg("%s: ours is %lld, the toolkit's %lld", declarations_of_ours[i].name,
                     declarations_of_ours[i].number, declarations_of_theirs[i].number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(our_declarations_equal_the_toolkits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
