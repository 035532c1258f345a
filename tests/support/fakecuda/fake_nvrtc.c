/* SPDX-License-Identifier: MIT */
/*
 * A stand-in for NVRTC: "compiles" with the machine's own compilers into a shared object, which the
 * stand-in driver loads as if it were a cubin. Portable source is compiled as C for the CPU; CUDA
 * source as C++ with a few words of the language defined away (fake_shim.hpp).
 *
 * FAKECUDA_NVRTC_FAIL=1 makes every compilation fail.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NVRTC_API __attribute__((visibility("default")))

enum {
    NVRTC_SUCCESS = 0,
    NVRTC_ERROR_OUT_OF_MEMORY = 1,
    NVRTC_ERROR_INVALID_INPUT = 3,
    NVRTC_ERROR_INVALID_PROGRAM = 4,
    NVRTC_ERROR_COMPILATION = 6,
    NVRTC_ERROR_INTERNAL_ERROR = 11
};

enum { PATH_BYTES = 512, LOG_BYTES = 65536 };

struct program {
    char folder[64];
    char name[128]; /* what messages call the source */
    bool is_portable;
    char *shims; /* lines that make a shim of each __global__ function */
    char *log;
    char *image;
    size_t image_bytes;
};

/* ---- files ---- */

static bool file_write(const char *folder, const char *name, const char *text)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "we");
    if (!file)
        return false;
    const bool is_written = fputs(text, file) >= 0;
    return !fclose(file) && is_written;
}

static char *file_read(const char *path, size_t *size_bytes)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return NULL;
    struct stat state;
    char *bytes = fstat(fileno(file), &state) ? NULL : malloc((size_t)state.st_size + 1);
    if (bytes) {
        *size_bytes = fread(bytes, 1, (size_t)state.st_size, file);
        bytes[*size_bytes] = 0;
    }
    fclose(file);
    return bytes;
}

static void folder_remove(const char *folder)
{
    char command[PATH_BYTES];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command))
        fprintf(stderr, "stand-in NVRTC: %s stays behind\n", folder);
}

/* ---- making programs ---- */

/* For each `__global__ ... NAME(`: a line FAKECUDA_SHIM(NAME). */
static char *shims_of(const char *source)
{
    char *text = NULL;
    size_t size_bytes = 0;
    FILE *out = open_memstream(&text, &size_bytes);
    if (!out)
        return NULL;
    for (const char *at = source; (at = strstr(at, "__global__")); at++) {
        const char *open = strchr(at, '(');
        if (!open)
            break;
        const char *end = open;
        while (end > at && isspace((unsigned char)end[-1]))
            end--;
        const char *begin = end;
        while (begin > at && (isalnum((unsigned char)begin[-1]) || begin[-1] == '_'))
            begin--;
        fprintf(out, "FAKECUDA_SHIM(%.*s)\n", (int)(end - begin), begin);
    }
    fclose(out);
    return text;
}

NVRTC_API int nvrtcDestroyProgram(struct program **program)
{
    if (!program || !*program)
        return NVRTC_ERROR_INVALID_PROGRAM;
    if ((*program)->folder[0])
        folder_remove((*program)->folder);
    free((*program)->shims);
    free((*program)->log);
    free((*program)->image);
    free(*program);
    *program = NULL;
    return NVRTC_SUCCESS;
}

NVRTC_API int nvrtcCreateProgram(struct program **out, const char *source, const char *name,
                                 int header_count, const char *const *headers,
                                 const char *const *include_names)
{
    struct program *program = calloc(1, sizeof *program);
    if (!program)
        return NVRTC_ERROR_OUT_OF_MEMORY;
    *out = program;
    snprintf(program->name, sizeof program->name, "%s", name ? name : "default_program");
    snprintf(program->folder, sizeof program->folder, "/tmp/fake-nvrtc-XXXXXX");
    if (!mkdtemp(program->folder))
        program->folder[0] = 0;
    program->is_portable = strstr(source, "millrace/portable.h");
    program->shims = shims_of(source);

    bool is_written =
        program->folder[0] && program->shims && file_write(program->folder, "source", source);
    for (int i = 0; i < header_count && is_written; i++)
        is_written = file_write(program->folder, include_names[i], headers[i]);
    if (!is_written) {
        nvrtcDestroyProgram(out);
        return NVRTC_ERROR_INTERNAL_ERROR;
    }
    return NVRTC_SUCCESS;
}

/* ---- compiling ---- */

/* The source between a prologue and an epilogue, with its own lines counted from 1. */
static bool unit_write(const struct program *program)
{
    char *text = NULL;
    size_t size_bytes = 0;
    FILE *out = open_memstream(&text, &size_bytes);
    if (!out)
        return false;
    if (program->is_portable)
        fprintf(out, "#line 1 \"%s\"\n#include \"source\"\n", program->name);
    else
        fprintf(out,
                "#include \"%s/fake_shim.hpp\"\n#line 1 \"%s\"\n#include \"source\"\n"
                "#line 1 \"shims\"\n%s",
                FAKECUDA_SOURCE, program->name, program->shims);
    fclose(out);
    const bool is_written =
        file_write(program->folder, program->is_portable ? "unit.c" : "unit.cpp", text);
    free(text);
    return is_written;
}

/* Options that mean something to the machine's compiler: -I, -D and their long forms. */
static void options_write(FILE *command, int count, const char *const *options)
{
    for (int i = 0; i < count; i++) {
        const char *option = options[i];
        if (!strncmp(option, "-I", 2) || !strncmp(option, "-D", 2))
            fprintf(command, " '%s'", option);
        else if (!strncmp(option, "--include-path=", 15))
            fprintf(command, " '-I%s'", option + 15);
        else if (!strncmp(option, "--define-macro=", 15))
            fprintf(command, " '-D%s'", option + 15);
    }
}

/* "FOLDER/source:3:9: error: words" becomes NVRTC's "NAME(3): error: words". */
static void log_add(FILE *log, const struct program *program, const char *line)
{
    const char *place = strstr(line, "/source:");
    int number = 0, length = 0;
    if (place && sscanf(place, "/source:%d:%*d:%n", &number, &length) == 1 && length)
        fprintf(log, "%s(%d):%s", program->name, number, place + length);
    else
        fputs(line, log);
}

static int command_run(struct program *program, const char *command)
{
    size_t size_bytes = 0;
    free(program->log);
    program->log = NULL;
    FILE *log = open_memstream(&program->log, &size_bytes);
    FILE *pipe = log ? popen(command, "re") : NULL;
    if (!pipe) {
        if (log)
            fclose(log);
        return -1;
    }
    char line[4096];
    while (fgets(line, sizeof line, pipe))
        log_add(log, program, line);
    fclose(log);
    return pclose(pipe);
}

NVRTC_API int nvrtcCompileProgram(struct program *program, int option_count,
                                  const char *const *options)
{
    if (!program)
        return NVRTC_ERROR_INVALID_PROGRAM;
    char *command = NULL;
    size_t size_bytes = 0;
    FILE *out = unit_write(program) ? open_memstream(&command, &size_bytes) : NULL;
    if (!out)
        return NVRTC_ERROR_INTERNAL_ERROR;
    /* Thread-local variables of libraries that come and go are more than the leak checker can follow;
     * those of the initial model are like the program's own. */
    fprintf(out, "%s -O1 -shared -fPIC -x %s -I'%s' -I'%s'",
            program->is_portable ? "cc -std=gnu11 -Werror=implicit-function-declaration"
                                 : "c++ -w -std=c++17 -ftls-model=initial-exec",
            program->is_portable ? "c" : "c++", program->folder, FAKECUDA_SOURCE);
    options_write(out, option_count, options);
    fprintf(out, " -o '%s/image.so' '%s/unit.%s' -lm 2>&1 </dev/null", program->folder,
            program->folder, program->is_portable ? "c" : "cpp");
    fclose(out);
    const char *must_fail = getenv("FAKECUDA_NVRTC_FAIL");
    const int status = must_fail && *must_fail == '1' ? 1 : command_run(program, command);
    free(command);

    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/image.so", program->folder);
    free(program->image);
    program->image = status ? NULL : file_read(path, &program->image_bytes);
    return program->image ? NVRTC_SUCCESS : NVRTC_ERROR_COMPILATION;
}

/* ---- results ---- */

NVRTC_API int nvrtcGetProgramLogSize(struct program *program, size_t *size_bytes)
{
    *size_bytes = program->log ? strlen(program->log) + 1 : 1;
    return NVRTC_SUCCESS;
}

NVRTC_API int nvrtcGetProgramLog(struct program *program, char *log)
{
    strcpy(log, program->log ? program->log : "");
    return NVRTC_SUCCESS;
}

NVRTC_API int nvrtcGetCUBINSize(struct program *program, size_t *size_bytes)
{
    *size_bytes = program->image ? program->image_bytes : 0;
    return program->image ? NVRTC_SUCCESS : NVRTC_ERROR_INVALID_PROGRAM;
}

NVRTC_API int nvrtcGetCUBIN(struct program *program, char *image)
{
    if (!program->image)
        return NVRTC_ERROR_INVALID_PROGRAM;
    memcpy(image, program->image, program->image_bytes);
    return NVRTC_SUCCESS;
}

NVRTC_API int nvrtcGetPTXSize(struct program *program, size_t *size_bytes)
{
    return nvrtcGetCUBINSize(program, size_bytes);
}

NVRTC_API int nvrtcGetPTX(struct program *program, char *image)
{
    return nvrtcGetCUBIN(program, image);
}

NVRTC_API int nvrtcVersion(int *major, int *minor)
{
    *major = 13;
    *minor = 0;
    return NVRTC_SUCCESS;
}

NVRTC_API int nvrtcGetNumSupportedArchs(int *count)
{
    *count = 2;
    return NVRTC_SUCCESS;
}

NVRTC_API int nvrtcGetSupportedArchs(int *archs)
{
    archs[0] = 80;
    archs[1] = 90;
    return NVRTC_SUCCESS;
}

NVRTC_API const char *nvrtcGetErrorString(int result)
{
    switch (result) {
    case NVRTC_SUCCESS:
        return "NVRTC_SUCCESS";
    case NVRTC_ERROR_COMPILATION:
        return "NVRTC_ERROR_COMPILATION";
    case NVRTC_ERROR_OUT_OF_MEMORY:
        return "NVRTC_ERROR_OUT_OF_MEMORY";
    default:
        return "NVRTC_ERROR_INTERNAL_ERROR";
    }
}
