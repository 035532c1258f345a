/* SPDX-License-Identifier: MIT */
/*
 * Types by name, and signatures as text.
 */
#include "support/check.h"

#include <millrace/kernel.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void check_refused(const char *text, const char *words)
{
    mr_parameter parameters[MR_PARAMETER_LIMIT];
    size_t count = 99;

    CHECK_STATUS(MR_E_FORMAT, mr_signature_parse(text, parameters, &count));
    CHECK_SAYS(words, mr_last_error());
    CHECK_EQ(0, count);
}

static void signature_is_read_in_order(void **state)
{
    (void)state;
    mr_parameter parameters[MR_PARAMETER_LIMIT];
    size_t count;

    CHECK_OK(mr_signature_parse("in f32 source, out u8 target,inout i64 both ,\n value u64 count",
                                parameters, &count));

    CHECK_EQ(4, count);
    CHECK_SAYS("source", parameters[0].name);
    CHECK_EQ(MR_ACCESS_IN, parameters[0].access);
    CHECK_EQ(MR_TYPE_F32, parameters[0].type);
    CHECK_EQ(MR_ACCESS_OUT, parameters[1].access);
    CHECK_EQ(MR_TYPE_U8, parameters[1].type);
    CHECK_EQ(MR_ACCESS_INOUT, parameters[2].access);
    CHECK_EQ(MR_TYPE_I64, parameters[2].type);
    CHECK_SAYS("count", parameters[3].name);
    CHECK_EQ(MR_ACCESS_VALUE, parameters[3].access);
}

static void signature_says_where_it_is_wrong(void **state)
{
    (void)state;
    check_refused("", "parameter 1: '' is not an access");
    check_refused("in f32 a,", "parameter 2: '' is not an access");
    check_refused("in f32 a, at f32 b", "parameter 2: 'at' is not an access; use in, out");
    check_refused("in real a", "parameter 1: 'real' is not a type; use u8");
    check_refused("in f32", "parameter 1: the name is missing");
    check_refused("in f32 a out f32 b", "parameter 1 ('a'): a comma must follow, not 'out f32 b'");
    check_refused("in f32 *a", "parameter 1: the name is missing");
    check_refused("in f32 1a", "name '1a' begins with a digit");
    check_refused("in f32 a, out f32 a", "parameter 2: name 'a' is already that of parameter 1");
    check_refused("in f32 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                  "is longer than 47 characters");
}

static void signature_has_at_most_its_limit_of_parameters(void **state)
{
    (void)state;
    mr_parameter parameters[MR_PARAMETER_LIMIT];
    char text[1024];
    size_t length = 0, count;
    for (int i = 0; i < MR_PARAMETER_LIMIT; i++)
        length +=
            (size_t)snprintf(text + length, sizeof text - length, "%sin f32 p%d", i ? ", " : "", i);

    CHECK_OK(mr_signature_parse(text, parameters, &count));
    CHECK_EQ(MR_PARAMETER_LIMIT, count);

    snprintf(text + length, sizeof text - length, ", in f32 more");
    check_refused(text, "more than 24 parameters");
}

static void types_have_names_and_sizes(void **state)
{
    (void)state;
    const size_t sizes[] = { 1, 1, 2, 2, 4, 4, 8, 8, 4, 8 };
    for (mr_type type = MR_TYPE_U8; type <= MR_TYPE_F64; type++) {
        mr_type parsed;
        CHECK_OK(mr_type_parse(mr_type_name(type), &parsed));
        CHECK_EQ(type, parsed);
        CHECK_EQ(sizes[type - MR_TYPE_U8], mr_type_size(type));
    }
    CHECK_EQ(0, mr_type_size((mr_type)0));
    CHECK_EQ(0, mr_type_size((mr_type)77));
    CHECK_SAYS("none", mr_type_name((mr_type)-1));
}

static void types_have_long_names_and_names_of_c(void **state)
{
    (void)state;
    mr_type type;
    CHECK_OK(mr_type_parse("uint16", &type));
    CHECK_EQ(MR_TYPE_U16, type);
    CHECK_OK(mr_type_parse("int8_t", &type));
    CHECK_EQ(MR_TYPE_I8, type);
    CHECK_OK(mr_type_parse("float32", &type));
    CHECK_EQ(MR_TYPE_F32, type);
    CHECK_OK(mr_type_parse("double", &type));
    CHECK_EQ(MR_TYPE_F64, type);

    CHECK_STATUS(MR_E_FORMAT, mr_type_parse("float32_t", &type));
    CHECK_EQ(0, type);
    CHECK_STATUS(MR_E_FORMAT, mr_type_parse("f16", &type));
    CHECK_SAYS("'f16' is not a type; use u8", mr_last_error());
    CHECK_STATUS(MR_E_FORMAT, mr_type_parse(NULL, &type));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signature_is_read_in_order),
        cmocka_unit_test(signature_says_where_it_is_wrong),
        cmocka_unit_test(signature_has_at_most_its_limit_of_parameters),
        cmocka_unit_test(types_have_names_and_sizes),
        cmocka_unit_test(types_have_long_names_and_names_of_c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
