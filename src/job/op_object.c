/* SPDX-License-Identifier: MIT */
/*
 * A stage that is a function in a shared object: `work` is an mr_stage_work (on the host), `submit`
 * an mr_stage_submit (enqueues on the stage's stream). `open` and `close`, where named, make and
 * free its context: mr_status open(const char *arguments, void **context); void close(void
 * *context).
 */
#include "job/stage.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef mr_status (*object_open_function)(const char *arguments, void **context);
typedef void (*object_close_function)(void *context);

struct object_arguments {
    const struct mr__yaml *node;
    const char *path, *arguments;
    const char *names[4]; /* work, submit, open, close */
    void *library;
    mr_stage_work work;
    mr_stage_submit submit;
    object_open_function open;
    object_close_function close;
    void *context;
    bool has_context;
};

enum { NAME_WORK, NAME_SUBMIT, NAME_OPEN, NAME_CLOSE, NAME_COUNT };
static const char *const name_keys[] = { "work", "submit", "open", "close" };

static bool object_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    static const char *const keys[] = { "path",      "work",  "submit", "open",  "close",
                                        "arguments", "dtype", "shape",  "merge", NULL };
    struct object_arguments *own = mr__arena_zalloc(reading->arena, sizeof *own);
    if (!own)
        return false;
    stage->arguments = own;
    own->node = mr__stage_key(stage, "object");
    if (!mr__field_map(reading, own->node, "an object", keys))
        return false;
    const struct mr__yaml *path = mr__yaml_child(own->node, "path");
    const struct mr__yaml *arguments = mr__yaml_child(own->node, "arguments");
    if (!path)
        mr__field_problem(reading, own->node, "needs the `path` of a shared object");
    bool is_good = mr__field_path(reading, path, &own->path);
    is_good &= !arguments || mr__field_text(reading, arguments, &own->arguments);
    for (size_t k = 0; k < NAME_COUNT; k++) {
        const struct mr__yaml *name = mr__yaml_child(own->node, name_keys[k]);
        is_good &= !name || mr__field_text(reading, name, &own->names[k]);
    }
    if (!own->names[NAME_WORK] == !own->names[NAME_SUBMIT]) {
        mr__field_problem(reading, own->node,
                          "an object has exactly one of `work` (a function that does the work) and "
                          "`submit` (one that enqueues it)");
        return false;
    }
    stage->is_host_work = own->names[NAME_WORK] != NULL;
    stage->is_parcel_wise = false;
    stage->is_repeatable = false; /* nobody can know */
    mr__field_bool(reading, mr__yaml_child(own->node, "merge"), &stage->is_parcel_wise);
    return is_good;
}

static bool object_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    const struct object_arguments *own = stage->arguments;
    struct mr__item_type type = stage->inputs[0]->type;
    const struct mr__yaml *dtype = mr__yaml_child(own->node, "dtype");
    const struct mr__yaml *shape = mr__yaml_child(own->node, "shape");
    if (dtype && !mr__field_dtype(reading, dtype, &type.dtype))
        return false;
    if (shape && !mr__field_shape(reading, shape, &type))
        return false;
    return mr__stage_give_type(reading, stage, &type);
}

/* NULL after an error; a function that is not named is no error. */
static mr_status find_function(const struct object_arguments *own, size_t which, void *function)
{
    if (!own->names[which])
        return MR_OK;
    void *symbol = dlsym(own->library, own->names[which]);
    if (!symbol)
        return mr_error_set(MR_E_INVALID, "%s has no function '%s': %s", own->path,
                            own->names[which], dlerror());
    memcpy(function, &symbol, sizeof symbol); /* ISO C has no cast from object to function */
    return MR_OK;
}

static mr_status object_open(struct mr__stage *stage)
{
    struct object_arguments *own = stage->arguments;
    char path[4096];
    /* Without a slash dlopen would look in the library path instead. */
    snprintf(path, sizeof path, "%s%s", strchr(own->path, '/') ? "" : "./", own->path);
    own->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!own->library)
        return mr_error_set(MR_E_IO, "the shared object cannot be loaded: %s", dlerror());
    mr_status status = find_function(own, NAME_WORK, &own->work);
    if (!status)
        status = find_function(own, NAME_SUBMIT, &own->submit);
    if (!status)
        status = find_function(own, NAME_OPEN, &own->open);
    if (!status)
        status = find_function(own, NAME_CLOSE, &own->close);
    return status;
}

static mr_status object_begin(struct mr__stage *stage)
{
    struct object_arguments *own = stage->arguments;
    own->context = NULL;
    if (!own->open)
        return MR_OK;
    /* Stands where the function sets no words of its own. */
    mr_error_set(MR_E_CALLBACK, "it answered a failure, without words");
    const mr_status status = own->open(own->arguments, &own->context);
    own->has_context = status == MR_OK;
    return status ? mr_error_prefix(status, "%s: %s: ", own->path, own->names[NAME_OPEN]) : MR_OK;
}

static void object_end(struct mr__stage *stage)
{
    struct object_arguments *own = stage->arguments;
    if (own->has_context && own->close)
        own->close(own->context);
    own->has_context = false;
    own->context = NULL;
}

static void object_close(struct mr__stage *stage)
{
    struct object_arguments *own = stage->arguments;
    if (own->library)
        dlclose(own->library);
    own->library = NULL;
}

static mr_status object_submit(void *context, mr_stage_call *call)
{
    const struct object_arguments *own = ((struct mr__stage *)context)->arguments;
    return own->submit(own->context, call);
}

static mr_status object_work(void *context, mr_host_call *call)
{
    const struct object_arguments *own = ((struct mr__stage *)context)->arguments;
    return own->work(own->context, call);
}

const struct mr__op mr__op_object = {
    .name = "object",
    .keys = (const char *const[]){ NULL },
    .read = object_read,
    .infer = object_infer,
    .open = object_open,
    .begin = object_begin,
    .submit = object_submit,
    .work = object_work,
    .end = object_end,
    .close = object_close,
};
