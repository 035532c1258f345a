/* SPDX-License-Identifier: MIT */
/*
 * The .npy header: magic, version, length, and a Python dict literal of exactly three keys. A small
 * strict reader of that literal; nothing of it is ever evaluated, and every length is checked
 * before it is believed.
 */
#include "job/npy.h"

#include "base/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define TEXT_LIMIT 32

struct literal {
    const char *next, *end;
};

static mr_status malformed(const char *what)
{
    return mr_error_set(MR_E_FORMAT,
                        "malformed .npy header: %s; write the file again with numpy.save", what);
}

static unsigned byte_at(const unsigned char *bytes, size_t k)
{
    return bytes[k];
}

mr_status mr__npy_header_bytes(const void *start, size_t start_bytes, size_t *header_bytes)
{
    const unsigned char *bytes = start;
    *header_bytes = 0;
    if (start_bytes < MAGIC_BYTES || memcmp(bytes, MAGIC, MAGIC_BYTES) != 0)
        return mr_error_set(MR_E_FORMAT,
                            "not a .npy file (no NUMPY mark at its start); for bare numbers say "
                            "`raw: {path, dtype, shape}`");
    if (start_bytes < MR__NPY_START_BYTES)
        return malformed("the file ends inside of it");

    const unsigned major = byte_at(bytes, 6), minor = byte_at(bytes, 7);
    if (major < 1 || major > 3 || minor != 0)
        return mr_error_set(MR_E_UNSUPPORTED,
                            ".npy version %u.%u is not known; versions 1.0, 2.0 and 3.0 are, which "
                            "numpy.save writes",
                            major, minor);
    const size_t low = byte_at(bytes, 8) | byte_at(bytes, 9) << 8;
    const size_t high = (size_t)(byte_at(bytes, 10) | byte_at(bytes, 11) << 8) << 16;
    const size_t total = major == 1 ? 10 + low : 12 + (low | high);
    if (total > MR__NPY_HEADER_LIMIT)
        return mr_error_set(MR_E_FORMAT,
                            "the .npy header claims %zu bytes; at most %zu are read. Is the file "
                            "damaged?",
                            total, MR__NPY_HEADER_LIMIT);
    *header_bytes = total;
    return MR_OK;
}

/* ---- the literal ---- */

static void skip_blanks(struct literal *literal)
{
    while (literal->next < literal->end && (*literal->next == ' ' || *literal->next == '\t'))
        literal->next++;
}

static bool take(struct literal *literal, char character)
{
    skip_blanks(literal);
    if (literal->next == literal->end || *literal->next != character)
        return false;
    literal->next++;
    return true;
}

static bool take_word(struct literal *literal, const char *word)
{
    skip_blanks(literal);
    const size_t length = strlen(word);
    if ((size_t)(literal->end - literal->next) < length || memcmp(literal->next, word, length) != 0)
        return false;
    literal->next += length;
    return true;
}

/* A text of printable characters in single or double quotes, without escapes. */
static bool take_text(struct literal *literal, char text[TEXT_LIMIT])
{
    skip_blanks(literal);
    if (literal->next == literal->end || (*literal->next != '\'' && *literal->next != '"'))
        return false;
    const char quote = *literal->next++;
    size_t length = 0;
    while (literal->next < literal->end && *literal->next != quote) {
        const char character = *literal->next++;
        if (character < ' ' || character > '~' || character == '\\' || length + 1 == TEXT_LIMIT)
            return false;
        text[length++] = character;
    }
    text[length] = 0;
    return take(literal, quote);
}

static mr_status take_length(struct literal *literal, uint64_t *out)
{
    if (take(literal, '-'))
        return malformed("a negative length in its shape");
    skip_blanks(literal);
    uint64_t value = 0;
    const char *start = literal->next;
    for (; literal->next < literal->end; literal->next++) {
        const unsigned digit = (unsigned)(*literal->next - '0');
        if (digit > 9)
            break;
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value))
            return malformed("a length in its shape is past 64 bits");
    }
    if (literal->next == start)
        return malformed("its shape is not a tuple of whole numbers");
    take_word(literal, "L"); /* as Python 2 wrote long integers */
    *out = value;
    return MR_OK;
}

static mr_status take_shape(struct literal *literal, struct mr__npy_header *out)
{
    if (!take(literal, '('))
        return malformed("its shape is not a tuple of whole numbers");
    bool has_comma = true;
    while (!take(literal, ')')) {
        if (!has_comma)
            return malformed("a comma is missing in its shape");
        if (out->rank == MR__NPY_RANK_LIMIT)
            return mr_error_set(MR_E_UNSUPPORTED,
                                "the array has more than %d axes; reshape it to fewer",
                                MR__NPY_RANK_LIMIT);
        mr_status status = take_length(literal, &out->shape[out->rank]);
        if (status)
            return status;
        out->rank++;
        has_comma = take(literal, ',');
    }
    if (out->rank == 1 && !has_comma)
        return malformed("its shape is not a tuple of whole numbers");
    return MR_OK;
}

static mr_status refuse_type(const char *text, const char *remedy)
{
    return mr_error_set(MR_E_UNSUPPORTED, "its numbers are of type '%s': %s", text, remedy);
}

/* "<u2" and its kin. */
static mr_status read_type(const char *text, mr_type *out)
{
    static const struct {
        const char *name;
        mr_type type;
    } known[] = {
        { "u1", MR_TYPE_U8 },  { "b1", MR_TYPE_U8 },  { "i1", MR_TYPE_I8 },  { "u2", MR_TYPE_U16 },
        { "i2", MR_TYPE_I16 }, { "u4", MR_TYPE_U32 }, { "i4", MR_TYPE_I32 }, { "u8", MR_TYPE_U64 },
        { "i8", MR_TYPE_I64 }, { "f4", MR_TYPE_F32 }, { "f8", MR_TYPE_F64 },
    };
    const char order = text[0];
    if (!order || !strchr("<>|=", order))
        return malformed("its type does not begin with a byte order");
    const char kind = text[1];
    if (kind == 'O')
        return refuse_type(text, "Python objects are never loaded; save plain numbers instead");
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
        if (strcmp(text + 1, known[k].name) != 0)
            continue;
        const bool is_single = mr_type_size(known[k].type) == 1;
        if (order == '>' && !is_single)
            return mr_error_set(MR_E_UNSUPPORTED,
                                "its numbers are big-endian ('%s'); save it again with "
                                "array.astype('<%s')",
                                text, known[k].name);
        if (order == '|' && !is_single)
            return malformed("its type lacks a byte order");
        *out = known[k].type;
        return MR_OK;
    }
    return refuse_type(text, "known are u1 i1 u2 i2 u4 i4 u8 i8 f4 f8 and b1; save it again with "
                             "array.astype('<f4') or another of them");
}

static mr_status take_type(struct literal *literal, struct mr__npy_header *out)
{
    skip_blanks(literal);
    if (literal->next < literal->end && (*literal->next == '[' || *literal->next == '{'))
        return mr_error_set(MR_E_UNSUPPORTED,
                            "its elements are structures; save one field of it as an array of its "
                            "own");
    char text[TEXT_LIMIT];
    if (!take_text(literal, text))
        return malformed("its 'descr' is no type");
    return read_type(text, &out->dtype);
}

static mr_status take_order(struct literal *literal)
{
    if (take_word(literal, "True"))
        return mr_error_set(MR_E_UNSUPPORTED, "the array is in Fortran order; save it again with "
                                              "numpy.ascontiguousarray(array)");
    if (take_word(literal, "False"))
        return MR_OK;
    return malformed("its 'fortran_order' is neither True nor False");
}

enum { KEY_TYPE = 1, KEY_ORDER = 2, KEY_SHAPE = 4, KEY_ALL = 7 };

static mr_status take_entry(struct literal *literal, struct mr__npy_header *out, unsigned *seen)
{
    char key[TEXT_LIMIT];
    if (!take_text(literal, key) || !take(literal, ':'))
        return malformed("no key where one is due");
    const unsigned bit = strcmp(key, "descr") == 0           ? KEY_TYPE
                         : strcmp(key, "fortran_order") == 0 ? KEY_ORDER
                         : strcmp(key, "shape") == 0         ? KEY_SHAPE
                                                             : 0;
    if (!bit || *seen & bit)
        return malformed(bit ? "a key stands twice"
                             : "a key that is none of descr, "
                               "fortran_order, shape");
    *seen |= bit;
    return bit == KEY_TYPE    ? take_type(literal, out)
           : bit == KEY_ORDER ? take_order(literal)
                              : take_shape(literal, out);
}

static mr_status take_header(struct literal *literal, struct mr__npy_header *out)
{
    if (!take(literal, '{'))
        return malformed("no '{' at its start");
    unsigned seen = 0;
    while (!take(literal, '}')) {
        mr_status status = take_entry(literal, out, &seen);
        if (status)
            return status;
        if (take(literal, ','))
            continue;
        if (!take(literal, '}'))
            return malformed("neither ',' nor '}' after a value");
        break;
    }
    if (seen != KEY_ALL)
        return malformed("one of descr, fortran_order and shape is missing");
    skip_blanks(literal);
    if (literal->next != literal->end - 1 || *literal->next != '\n')
        return malformed("something stands after its '}', or no line end at its end");
    return MR_OK;
}

/* The size of all elements. An empty leading axis is an empty stack; other empty axes are refused.
 */
static mr_status check_size(struct mr__npy_header *out)
{
    uint64_t product = mr_type_size(out->dtype);
    for (uint32_t k = 0; k < out->rank; k++) {
        if (k && !out->shape[k])
            return mr_error_set(MR_E_UNSUPPORTED,
                                "axis %u of the array is empty (length 0), so that its items hold "
                                "nothing",
                                k);
        const uint64_t length = out->shape[k] ? out->shape[k] : 1;
        if (__builtin_mul_overflow(product, length, &product) || product > INT64_MAX)
            return malformed("its shape is larger than any file");
    }
    out->data_bytes = out->rank && !out->shape[0] ? 0 : product;
    return MR_OK;
}

mr_status mr__npy_parse(const void *header, size_t header_bytes, struct mr__npy_header *out)
{
    *out = (struct mr__npy_header){ 0 };
    size_t claimed;
    mr_status status = mr__npy_header_bytes(header, header_bytes, &claimed);
    if (status)
        return status;
    if (claimed > header_bytes)
        return malformed("the file ends inside of it");

    const char *text = header;
    struct literal literal = { .next = text + (text[6] == 1 ? 10 : 12), .end = text + claimed };
    status = take_header(&literal, out);
    if (status)
        return status;
    out->data_offset = claimed;
    return check_size(out);
}

/* ---- files ---- */

/* Up to `size_bytes` from the start; fewer only at the file's end. */
static mr_status read_start(int file, void *bytes, size_t size_bytes, size_t *got)
{
    if (mr__file_read_at(file, bytes, size_bytes, 0, got))
        return MR_OK;
    return mr_error_set(MR_E_IO, "reading the header failed: %s", strerror(errno));
}

static mr_status check_length(int file, const struct mr__npy_header *header)
{
    struct stat facts;
    if (fstat(file, &facts) || !S_ISREG(facts.st_mode))
        return mr_error_set(MR_E_IO, "not a regular file");
    const uint64_t due = header->data_offset + header->data_bytes;
    const uint64_t there = (uint64_t)facts.st_size;
    if (there < due)
        return mr_error_set(MR_E_FORMAT,
                            "truncated: the header promises %" PRIu64
                            " bytes, the file has %" PRIu64 " (%" PRIu64
                            " are missing); copy or write it again",
                            due, there, due - there);
    if (there > due)
        return mr_error_set(MR_E_FORMAT,
                            "oversized: %" PRIu64 " bytes stand after the array's end; the header "
                            "does not fit the data. Write it again, or read it as `raw`",
                            there - due);
    return MR_OK;
}

mr_status mr__npy_read(int file, const char *path, struct mr__npy_header *out)
{
    char header[MR__NPY_HEADER_LIMIT];
    *out = (struct mr__npy_header){ 0 };
    size_t got = 0, total = 0;
    mr_status status = read_start(file, header, MR__NPY_START_BYTES, &got);
    if (!status)
        status = mr__npy_header_bytes(header, got, &total);
    if (!status)
        status = read_start(file, header, total, &got);
    if (!status)
        status = mr__npy_parse(header, got, out);
    if (!status)
        status = check_length(file, out);
    return status ? mr_error_prefix(status, "%s: ", path) : MR_OK;
}

static const char *npy_name(mr_type type)
{
    switch (type) {
    case MR_TYPE_U8:
        return "|u1";
    case MR_TYPE_I8:
        return "|i1";
    case MR_TYPE_U16:
        return "<u2";
    case MR_TYPE_I16:
        return "<i2";
    case MR_TYPE_U32:
        return "<u4";
    case MR_TYPE_I32:
        return "<i4";
    case MR_TYPE_U64:
        return "<u8";
    case MR_TYPE_I64:
        return "<i8";
    case MR_TYPE_F32:
        return "<f4";
    case MR_TYPE_F64:
        return "<f8";
    }
    return "|V1";
}

void mr__npy_format(const struct mr__item_type *type, uint64_t count,
                    char header[MR__NPY_WRITTEN_BYTES])
{
    /* 9 lengths of at most 20 digits would not fit 256 bytes; but their product is below 2^64, so
     * that together they have far fewer digits. */
    char shape[200];
    size_t used = (size_t)snprintf(shape, sizeof shape, "%" PRIu64 ",", count);
    for (uint32_t k = 0; k < type->rank && used < sizeof shape; k++)
        used += (size_t)snprintf(shape + used, sizeof shape - used, " %" PRIu64 "%s",
                                 type->shape[k], k + 1 < type->rank ? "," : "");

    const uint16_t length = MR__NPY_WRITTEN_BYTES - 10;
    memset(header, ' ', MR__NPY_WRITTEN_BYTES);
    memcpy(header, MAGIC "\x01\x00", 8);
    header[8] = (char)(length & 0xff);
    header[9] = (char)(length >> 8);
    const int text = snprintf(header + 10, MR__NPY_WRITTEN_BYTES - 10,
                              "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                              npy_name(type->dtype), shape);
    header[10 + text] = ' ';
    header[MR__NPY_WRITTEN_BYTES - 1] = '\n';
}
