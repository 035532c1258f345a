/* SPDX-License-Identifier: MIT */
/*
 * Children: found, started without a shell, listened to, and ended in time.
 */
#include "base/process.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/environment.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_BYTES = 64 << 10 };

/* ---- finding ---- */

static bool is_program(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

/* Takes `candidate`, which may be NULL for want of memory. */
static int consider(char *candidate, char **path)
{
    if (!candidate)
        return ENOMEM;
    if (is_program(candidate)) {
        *path = candidate;
        return 0;
    }
    mr__free(candidate);
    return ENOENT;
}

int mr__process_find(const char *name, char **path)
{
    *path = NULL;
    if (strchr(name, '/'))
        return consider(mr__copy_text(name), path);

    const char *folder = mr__environment("PATH");
    int result = ENOENT;
    while (folder && result == ENOENT) {
        const char *end = strchrnul(folder, ':');
        const int length = (int)(end - folder);
        result = consider(
            mr__format_text("%.*s/%s", length ? length : 1, length ? folder : ".", name), path);
        folder = *end ? end + 1 : NULL;
    }
    return result;
}

/* ---- starting ---- */

/* The child's signals are the defaults: a caller that ignores SIGPIPE is no business of its. */
static int start(const char *path, char *const *arguments, char *const *environment, int output,
                 pid_t *child)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);

    int error = posix_spawn_file_actions_init(&files);
    if (error)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (error) {
        posix_spawn_file_actions_destroy(&files);
        return error;
    }
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    error = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
    if (!error)
        error = posix_spawn(child, path, &files, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

/* ---- listening ---- */

/* Reads until the last holder of the other end is gone. False when the time is over before that. */
static bool listen_to(int pipe, char *output, uint64_t deadline_ns)
{
    char rest[4096];
    size_t length = 0;
    for (;;) {
        const uint64_t now_ns = mr__clock_now_ns();
        if (now_ns >= deadline_ns)
            return false;
        const uint64_t left_ms = (deadline_ns - now_ns) / 1000000 + 1;
        struct pollfd poll_pipe = { .fd = pipe, .events = POLLIN };
        if (poll(&poll_pipe, 1, left_ms < 60000 ? (int)left_ms : 60000) <= 0)
            continue;

        const bool has_room = output && length < OUTPUT_BYTES;
        const ssize_t count = read(pipe, has_room ? output + length : rest,
                                   has_room ? OUTPUT_BYTES - length : sizeof rest);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return true;
        if (has_room)
            length += (size_t)count;
    }
}

static int wait_for(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return -1; /* the program ignores SIGCHLD, or another thread waited for all */
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct mr__process_result mr__process_run(const char *path, char *const *arguments,
                                          uint64_t timeout_ns)
{
    struct mr__process_result result = { 0 };
    const uint64_t now_ns = mr__clock_now_ns();
    const uint64_t deadline_ns =
        timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;

    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) {
        result.error = errno;
        return result;
    }
    char **environment = mr__environment_in_english();
    pid_t child;
    result.error = environment ? start(path, arguments, environment, ends[1], &child) : ENOMEM;
    mr__free(environment);
    close(ends[1]);
    if (!result.error) {
        result.output = mr__zalloc(OUTPUT_BYTES + 1);
        result.is_killed = !listen_to(ends[0], result.output, deadline_ns);
        if (result.is_killed)
            kill(-child, SIGKILL);
        result.exit_code = wait_for(child);
    }
    close(ends[0]);
    return result;
}
