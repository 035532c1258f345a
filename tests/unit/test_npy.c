/* SPDX-License-Identifier: MIT */
/* The .npy header: what is read, what is written, and every way to be refused, with its words. */
#include "job_fixture.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

/* A version 1.0 header around a dict literal, as NumPy writes it. */
static size_t make_header(const char *literal, char *header)
{
    const size_t length = (10 + strlen(literal) + 1 + 63) / 64 * 64;
    memset(header, ' ', length);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)((length - 10) & 0xff);
    header[9] = (char)((length - 10) >> 8);
    memcpy(header + 10, literal, strlen(literal));
    header[length - 1] = '\n';
    return length;
}

static mr_status parse(const char *literal, struct mr__npy_header *out)
{
    char header[4096];
    return mr__npy_parse(header, make_header(literal, header), out);
}

#define LITERAL(descr, order, shape)                                                               \
    "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"

static void npy_reads_what_numpy_writes(void **state)
{
    (void)state;
    struct mr__npy_header header;

    assert_ok(parse(LITERAL("'<u2'", "False", "(128, 2048, 2048)"), &header));
    assert_int_equal(MR_TYPE_U16, header.dtype);
    assert_int_equal(3, header.rank);
    assert_int_equal(128, header.shape[0]);
    assert_int_equal(2048, header.shape[2]);
    assert_int_equal(128u * 2048 * 2048 * 2, header.data_bytes);
    assert_int_equal(128, header.data_offset);

    assert_ok(parse(LITERAL("'|u1'", "False", "(5,)"), &header));
    assert_int_equal(1, header.rank);
    assert_ok(parse(LITERAL("\"<f8\"", "False", "()"), &header));
    assert_int_equal(0, header.rank);
    assert_int_equal(8, header.data_bytes);
    assert_ok(parse("{\"shape\":(3L,2L),'fortran_order':False,'descr':'|b1'}", &header));
    assert_int_equal(MR_TYPE_U8, header.dtype);
}

static void npy_reads_every_type_it_writes(void **state)
{
    (void)state;
    for (mr_type type = MR_TYPE_U8; type <= MR_TYPE_F64; type++) {
        const struct mr__item_type item = { .dtype = type, .rank = 2, .shape = { 7, 9 } };
        char text[MR__NPY_WRITTEN_BYTES];
        struct mr__npy_header header;

        mr__npy_format(&item, 3, text);

        assert_ok(mr__npy_parse(text, sizeof text, &header));
        assert_int_equal(type, header.dtype);
        assert_int_equal(3, header.rank);
        assert_int_equal(3, header.shape[0]);
        assert_int_equal(9, header.shape[2]);
        assert_int_equal(MR__NPY_WRITTEN_BYTES, header.data_offset);
    }
}

static void npy_reads_versions_two_and_three(void **state)
{
    (void)state;
    for (char version = 2; version <= 3; version++) {
        const char literal[] = "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2)}\n";
        char text[12 + sizeof literal] = "\x93NUMPY";
        struct mr__npy_header header;
        text[6] = version;
        text[8] = sizeof literal - 1;
        memcpy(text + 12, literal, sizeof literal);

        assert_ok(mr__npy_parse(text, 12 + sizeof literal - 1, &header));
        assert_int_equal(MR_TYPE_I32, header.dtype);
        assert_int_equal(12 + sizeof literal - 1, header.data_offset);
    }
}

static void npy_of_no_items_is_empty(void **state)
{
    (void)state;
    struct mr__npy_header header;
    assert_ok(parse(LITERAL("'<f4'", "False", "(0, 4, 4)"), &header));
    assert_int_equal(0, header.data_bytes);
}

static void npy_refuses_hostile_headers_in_words(void **state)
{
    (void)state;
    const struct {
        const char *literal;
        mr_status status;
        const char *words;
    } cases[] = {
        { LITERAL("'>u2'", "False", "(2, 2)"), MR_E_UNSUPPORTED, "big-endian" },
        { LITERAL("'<u2'", "True", "(2, 2)"), MR_E_UNSUPPORTED, "Fortran" },
        { LITERAL("'|O'", "False", "(2, 2)"), MR_E_UNSUPPORTED, "Python objects" },
        { LITERAL("'<c8'", "False", "(2, 2)"), MR_E_UNSUPPORTED, "astype" },
        { LITERAL("'<f2'", "False", "(2, 2)"), MR_E_UNSUPPORTED, "astype" },
        { LITERAL("'|S10'", "False", "(2, 2)"), MR_E_UNSUPPORTED, "type '|S10'" },
        { LITERAL("[('x', '<f4')]", "False", "(2,)"), MR_E_UNSUPPORTED, "structures" },
        { LITERAL("'|u2'", "False", "(2,)"), MR_E_FORMAT, "byte order" },
        { LITERAL("'u2'", "False", "(2,)"), MR_E_FORMAT, "byte order" },
        { LITERAL("''", "False", "(2,)"), MR_E_FORMAT, "byte order" },
        { LITERAL("7", "False", "(2,)"), MR_E_FORMAT, "'descr'" },
        { LITERAL("'<u2'", "Maybe", "(2,)"), MR_E_FORMAT, "fortran_order" },
        { LITERAL("'<u2'", "False", "(-2, 2)"), MR_E_FORMAT, "negative" },
        { LITERAL("'<u2'", "False", "(2.5, 2)"), MR_E_FORMAT, "shape" },
        { LITERAL("'<u2'", "False", "(2 2)"), MR_E_FORMAT, "comma" },
        { LITERAL("'<u2'", "False", "(2)"), MR_E_FORMAT, "tuple" },
        { LITERAL("'<u2'", "False", "[2, 2]"), MR_E_FORMAT, "tuple" },
        { LITERAL("'<u2'", "False", "(2, 0)"), MR_E_UNSUPPORTED, "empty" },
        { LITERAL("'<u2'", "False", "(99999999999999999999,)"), MR_E_FORMAT, "64 bits" },
        { LITERAL("'<u2'", "False", "(4294967296, 4294967296)"), MR_E_FORMAT, "any file" },
        { LITERAL("'<u2'", "False", "(4611686018427387904,)"), MR_E_FORMAT, "any file" },
        { LITERAL("'<u2'", "False", "(1,1,1,1,1,1,1,1,1,1)"), MR_E_UNSUPPORTED, "axes" },
        { "{'descr': '<u2', 'fortran_order': False}", MR_E_FORMAT, "missing" },
        { "{'descr': '<u2', 'descr': '<u2', 'shape': (2,)}", MR_E_FORMAT, "twice" },
        { "{'descr': '<u2', 'fortran_order': False, 'shape': (2,), 'x': 1}", MR_E_FORMAT,
          "none of" },
        { LITERAL("'<u2'", "False", "(2,)") " import os", MR_E_FORMAT, "after its '}'" },
        { "__import__('os').system('true')", MR_E_FORMAT, "no '{'" },
        { "{'descr': '<u2\\x41'}", MR_E_FORMAT, "descr" },
        { "{", MR_E_FORMAT, "no key" },
        { "", MR_E_FORMAT, "no '{'" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct mr__npy_header header;
        const mr_status status = parse(cases[k].literal, &header);
        if (status != cases[k].status || !strstr(mr_last_error(), cases[k].words))
            fail_msg("%s: expected %s with \"%s\", got %s: %s", cases[k].literal,
                     mr_status_name(cases[k].status), cases[k].words, mr_status_name(status),
                     mr_last_error());
    }
}

static void npy_refuses_every_cut_header(void **state)
{
    (void)state;
    char text[4096];
    const size_t length = make_header(LITERAL("'<u2'", "False", "(2, 2)"), text);
    for (size_t cut = 0; cut < length; cut++) {
        struct mr__npy_header header;
        assert_status(MR_E_FORMAT, mr__npy_parse(text, cut, &header));
    }
}

static void npy_refuses_other_magic_and_versions(void **state)
{
    (void)state;
    char text[4096];
    struct mr__npy_header header;
    const size_t length = make_header(LITERAL("'<u2'", "False", "(2, 2)"), text);

    text[6] = 9;
    assert_status(MR_E_UNSUPPORTED, mr__npy_parse(text, length, &header));
    assert_words("version 9.0");
    text[6] = 2;
    text[10] = text[11] = 0x7f;
    assert_status(MR_E_FORMAT, mr__npy_parse(text, length, &header));
    assert_words("claims");
    text[0] = 'P';
    assert_status(MR_E_FORMAT, mr__npy_parse(text, length, &header));
    assert_words("not a .npy file");
}

static mr_status read_path(const char *path, struct mr__npy_header *out)
{
    const int file = open(path, O_RDONLY);
    assert_true(file >= 0);
    const mr_status status = mr__npy_read(file, path, out);
    close(file);
    return status;
}

static void npy_file_must_be_as_long_as_it_says(void **state)
{
    (void)state;
    struct mr__npy_header header;
    write_stack("good.npy", MR_TYPE_U16, 3, 4, 5, 1);
    assert_ok(read_path("good.npy", &header));

    size_t size;
    char *bytes = read_file("good.npy", &size);
    write_file("short.npy", bytes, size - 7);
    assert_status(MR_E_FORMAT, read_path("short.npy", &header));
    assert_words("short.npy: truncated");
    assert_words("7 are missing");

    FILE *file = fopen("good.npy", "a");
    fputs("more", file);
    fclose(file);
    assert_status(MR_E_FORMAT, read_path("good.npy", &header));
    assert_words("oversized: 4 bytes");
    free(bytes);
}

static void npy_written_header_holds_the_largest_shapes(void **state)
{
    (void)state;
    const struct mr__item_type item = { .dtype = MR_TYPE_U8,
                                        .rank = 8,
                                        .shape = { 99, 99, 99, 99, 99, 9, 9, 1 } };
    char text[MR__NPY_WRITTEN_BYTES];
    struct mr__npy_header header;

    mr__npy_format(&item, 1234567, text);

    assert_ok(mr__npy_parse(text, sizeof text, &header));
    assert_int_equal(9, header.rank);
    assert_int_equal(1234567, header.shape[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npy_reads_what_numpy_writes),
        cmocka_unit_test(npy_reads_every_type_it_writes),
        cmocka_unit_test(npy_reads_versions_two_and_three),
        cmocka_unit_test(npy_of_no_items_is_empty),
        cmocka_unit_test(npy_refuses_hostile_headers_in_words),
        cmocka_unit_test(npy_refuses_every_cut_header),
        cmocka_unit_test(npy_refuses_other_magic_and_versions),
        fixture_test(npy_file_must_be_as_long_as_it_says),
        cmocka_unit_test(npy_written_header_holds_the_largest_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
