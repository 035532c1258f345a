/* SPDX-License-Identifier: MIT */
/*
 * The version of the linked library.
 */
#include <millrace/version.h>

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

int mr_version(void)
{
    return MR_VERSION;
}

const char *mr_version_text(void)
{
    return VERSION_TEXT(MR_VERSION_MAJOR, MR_VERSION_MINOR, MR_VERSION_PATCH);
}
