/* SPDX-License-Identifier: MIT */
/*
 * Names and phrases of statuses, and the words that each thread keeps of its last failure.
 */
#include "core/status.h"

#include <stdio.h>
#include <string.h>

static _Thread_local char last_words[MR_ERROR_BYTES];

const char *mr_status_name(mr_status status)
{
    switch (status) {
    case MR_OK:
        return "MR_OK";
    case MR_END:
        return "MR_END";
    case MR_E_INVALID:
        return "MR_E_INVALID";
    case MR_E_STATE:
        return "MR_E_STATE";
    case MR_E_NO_MEMORY:
        return "MR_E_NO_MEMORY";
    case MR_E_BUSY:
        return "MR_E_BUSY";
    case MR_E_TIMEOUT:
        return "MR_E_TIMEOUT";
    case MR_E_UNSUPPORTED:
        return "MR_E_UNSUPPORTED";
    case MR_E_UNAVAILABLE:
        return "MR_E_UNAVAILABLE";
    case MR_E_DEVICE:
        return "MR_E_DEVICE";
    case MR_E_CLOSED:
        return "MR_E_CLOSED";
    case MR_E_CANCELLED:
        return "MR_E_CANCELLED";
    case MR_E_CALLBACK:
        return "MR_E_CALLBACK";
    case MR_E_IO:
        return "MR_E_IO";
    case MR_E_FORMAT:
        return "MR_E_FORMAT";
    case MR_E_COMPILE:
        return "MR_E_COMPILE";
    case MR_E_SIGNATURE:
        return "MR_E_SIGNATURE";
    case MR_E_MISMATCH:
        return "MR_E_MISMATCH";
    }
    return "unknown status";
}

const char *mr_status_text(mr_status status)
{
    switch (status) {
    case MR_OK:
        return "done";
    case MR_END:
        return "the sequence has ended";
    case MR_E_INVALID:
        return "an argument or option is out of range";
    case MR_E_STATE:
        return "right call, wrong moment";
    case MR_E_NO_MEMORY:
        return "out of memory";
    case MR_E_BUSY:
        return "not finished yet";
    case MR_E_TIMEOUT:
        return "the time given ran out";
    case MR_E_UNSUPPORTED:
        return "this backend cannot do it";
    case MR_E_UNAVAILABLE:
        return "the backend, device or tool is not here";
    case MR_E_DEVICE:
        return "the driver refused or failed";
    case MR_E_CLOSED:
        return "the other side has gone";
    case MR_E_CANCELLED:
        return "stopped on request";
    case MR_E_CALLBACK:
        return "a function of the caller's reported failure";
    case MR_E_IO:
        return "reading or writing a file failed";
    case MR_E_FORMAT:
        return "data or text from outside is malformed";
    case MR_E_COMPILE:
        return "a kernel's source does not compile";
    case MR_E_SIGNATURE:
        return "arguments differ from the kernel's declared signature";
    case MR_E_MISMATCH:
        return "a result differs from its reference";
    }
    return "a status this library does not know";
}

const char *mr_last_error(void)
{
    return last_words;
}

void mr__error_clear(void)
{
    last_words[0] = '\0';
}

mr_status mr_error_setv(mr_status status, const char *format, va_list arguments)
{
    /* Formatted aside first: an argument may be the present words. */
    char words[MR_ERROR_BYTES];
    vsnprintf(words, sizeof words, format, arguments);
    memcpy(last_words, words, strlen(words) + 1);
    return status;
}

mr_status mr_error_set(mr_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mr_error_setv(status, format, arguments);
    va_end(arguments);
    return status;
}

mr_status mr_error_prefix(mr_status status, const char *format, ...)
{
    char words[MR_ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    if (length < 0)
        length = 0;
    if ((size_t)length < sizeof words)
        snprintf(words + length, sizeof words - (size_t)length, "%s", last_words);
    memcpy(last_words, words, strlen(words) + 1);
    return status;
}
