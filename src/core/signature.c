/* SPDX-License-Identifier: MIT */
/*
 * Types, and signatures as text: "in f32 source, out f32 target, value u64 count".
 */
#include "core/signature.h"

#include <stdio.h>
#include <string.h>

/* ---- types ---- */

static const struct type {
    const char *name, *long_name;
    uint8_t size_bytes;
} types[] = {
    [MR_TYPE_U8] = { "u8", "uint8", 1 },     [MR_TYPE_I8] = { "i8", "int8", 1 },
    [MR_TYPE_U16] = { "u16", "uint16", 2 },  [MR_TYPE_I16] = { "i16", "int16", 2 },
    [MR_TYPE_U32] = { "u32", "uint32", 4 },  [MR_TYPE_I32] = { "i32", "int32", 4 },
    [MR_TYPE_U64] = { "u64", "uint64", 8 },  [MR_TYPE_I64] = { "i64", "int64", 8 },
    [MR_TYPE_F32] = { "f32", "float32", 4 }, [MR_TYPE_F64] = { "f64", "float64", 8 },
};

static bool is_type(mr_type type)
{
    return type >= MR_TYPE_U8 && type <= MR_TYPE_F64;
}

size_t mr_type_size(mr_type type)
{
    return is_type(type) ? types[type].size_bytes : 0;
}

const char *mr_type_name(mr_type type)
{
    return is_type(type) ? types[type].name : "none";
}

/* The type of that name, or 0. C's own names count too. */
static mr_type type_find(const char *name)
{
    for (mr_type type = MR_TYPE_U8; type <= MR_TYPE_F64; type++) {
        const size_t length = strlen(types[type].long_name);
        if (strcmp(name, types[type].name) == 0 || strcmp(name, types[type].long_name) == 0)
            return type;
        if (type < MR_TYPE_F32 && strncmp(name, types[type].long_name, length) == 0 &&
            strcmp(name + length, "_t") == 0)
            return type;
    }
    if (strcmp(name, "float") == 0)
        return MR_TYPE_F32;
    if (strcmp(name, "double") == 0)
        return MR_TYPE_F64;
    return (mr_type)0;
}

#define TYPE_NAMES "u8, i8, u16, i16, u32, i32, u64, i64, f32 or f64"

mr_status mr_type_parse(const char *name, mr_type *out)
{
    *out = name ? type_find(name) : (mr_type)0;
    if (*out)
        return MR_OK;
    return mr_error_set(MR_E_FORMAT, "'%.40s' is not a type; use " TYPE_NAMES, name ? name : "");
}

/* ---- signatures ---- */

static const char *const access_names[] = {
    [MR_ACCESS_VALUE] = "value",
    [MR_ACCESS_IN] = "in",
    [MR_ACCESS_OUT] = "out",
    [MR_ACCESS_INOUT] = "inout",
};

const char *mr__access_name(mr_access access)
{
    return access_names[access];
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Takes one word from the text; "" where there is none. A word that is too long is cut: it is no
 * access or type then, and too long for a name. */
static void take_word(const char **text, char word[static sizeof(((mr_parameter *)0)->name) + 1])
{
    const size_t limit = sizeof(((mr_parameter *)0)->name);
    size_t length = 0;
    while (is_blank(**text))
        ++*text;
    for (; is_word(**text); ++*text) {
        if (length < limit)
            word[length++] = **text;
    }
    word[length] = '\0';
    while (is_blank(**text))
        ++*text;
}

static bool access_find(const char *word, mr_access *out)
{
    for (size_t i = 0; i < sizeof access_names / sizeof *access_names; i++) {
        if (strcmp(word, access_names[i]) == 0) {
            *out = (mr_access)i;
            return true;
        }
    }
    return false;
}

static mr_status name_check(const char *name, const mr_parameter *parameters, size_t count)
{
    if (!*name)
        return mr_error_set(MR_E_FORMAT,
                            "signature, parameter %zu: the name is missing; write \"access type "
                            "name\"",
                            count + 1);
    if (*name >= '0' && *name <= '9')
        return mr_error_set(MR_E_FORMAT, "signature, parameter %zu: name '%s' begins with a digit",
                            count + 1, name);
    if (strlen(name) >= sizeof parameters->name)
        return mr_error_set(MR_E_FORMAT,
                            "signature, parameter %zu: name '%s...' is longer than %zu characters",
                            count + 1, name, sizeof parameters->name - 1);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, parameters[i].name) == 0)
            return mr_error_set(MR_E_FORMAT,
                                "signature, parameter %zu: name '%s' is already that of parameter "
                                "%zu",
                                count + 1, name, i + 1);
    }
    return MR_OK;
}

/* One parameter; those before it are known. */
static mr_status take_parameter(const char **text, mr_parameter *parameters, size_t count)
{
    char word[sizeof parameters->name + 1];
    mr_parameter *parameter = &parameters[count];
    *parameter = (mr_parameter){ 0 };

    take_word(text, word);
    if (!access_find(word, &parameter->access))
        return mr_error_set(MR_E_FORMAT,
                            "signature, parameter %zu: '%s' is not an access; use in, out, inout "
                            "or value",
                            count + 1, word);
    take_word(text, word);
    parameter->type = type_find(word);
    if (!parameter->type)
        return mr_error_set(MR_E_FORMAT,
                            "signature, parameter %zu: '%s' is not a type; use " TYPE_NAMES,
                            count + 1, word);
    take_word(text, word);
    const mr_status status = name_check(word, parameters, count);
    if (status)
        return status;
    memcpy(parameter->name, word, strlen(word) + 1);
    return MR_OK;
}

mr_status mr_signature_parse(const char *text, mr_parameter *parameters, size_t *count)
{
    *count = 0;
    if (!text || !parameters)
        return mr_error_set(MR_E_INVALID, "mr_signature_parse: the text or the array is NULL");

    size_t found = 0;
    for (const char *rest = text;; rest++) {
        if (found == MR_PARAMETER_LIMIT)
            return mr_error_set(MR_E_FORMAT, "signature: more than %d parameters",
                                MR_PARAMETER_LIMIT);
        const mr_status status = take_parameter(&rest, parameters, found);
        if (status)
            return status;
        found++;
        if (!*rest)
            break;
        if (*rest != ',')
            return mr_error_set(MR_E_FORMAT,
                                "signature, parameter %zu ('%s'): a comma must follow, not '%.20s'",
                                found, parameters[found - 1].name, rest);
    }
    *count = found;
    return MR_OK;
}

/* ---- comparison ---- */

mr_status mr__signature_compare(const char *kernel, const mr_parameter *source, size_t source_count,
                                const mr_parameter *given, size_t given_count)
{
    if (source_count != given_count)
        return mr_error_set(MR_E_SIGNATURE,
                            "kernel '%s': its source declares %zu parameters, the signature given "
                            "has %zu",
                            kernel, source_count, given_count);
    for (size_t i = 0; i < source_count; i++) {
        const mr_parameter *a = &source[i], *b = &given[i];
        if (a->access == b->access && a->type == b->type && strcmp(a->name, b->name) == 0)
            continue;
        return mr_error_set(MR_E_SIGNATURE,
                            "kernel '%s', parameter %zu: its source declares '%s %s %s', the "
                            "signature given has '%s %s %s'",
                            kernel, i + 1, access_names[a->access], types[a->type].name, a->name,
                            access_names[b->access], types[b->type].name, b->name);
    }
    return MR_OK;
}
