/* SPDX-License-Identifier: MIT */
/*
 * support/driver.h - the CUDA driver as some other library uses it: opened by itself, with prototypes
 * of its own, in the device's context.
 */
#ifndef TEST_DRIVER_H
#define TEST_DRIVER_H

#include "support/check.h"

#include <millrace/device.h>

#include <dlfcn.h>
#include <stdbool.h>

struct driver {
    void *library;
    void *context;
    int (*push)(void *context);
    int (*pop)(void **context);
    int (*stream_create)(void **stream, unsigned flags, int priority);
    int (*stream_destroy)(void *stream);
    int (*allocate)(uint64_t *address, size_t size);
    int (*free)(uint64_t address);
    int (*set_u32)(uint64_t address, uint32_t value, size_t count, void *stream);
};

static inline void *driver_symbol(const struct driver *driver, const char *name)
{
    void *symbol = dlsym(driver->library, name);
    if (!symbol)
        CHECK_FAIL("libcuda.so.1 has no %s", name);
    return symbol;
}

/* False for a device that has no driver. */
static inline bool driver_open(struct driver *driver, mr_device *device)
{
    *driver = (struct driver){ .context = mr_device_native(device) };
    if (!driver->context)
        return false;
    driver->library = dlopen("libcuda.so.1", RTLD_NOW);
    CHECK(driver->library != NULL);
    *(void **)&driver->push = driver_symbol(driver, "cuCtxPushCurrent_v2");
    *(void **)&driver->pop = driver_symbol(driver, "cuCtxPopCurrent_v2");
    *(void **)&driver->stream_create = driver_symbol(driver, "cuStreamCreateWithPriority");
    *(void **)&driver->stream_destroy = driver_symbol(driver, "cuStreamDestroy_v2");
    *(void **)&driver->allocate = driver_symbol(driver, "cuMemAlloc_v2");
    *(void **)&driver->free = driver_symbol(driver, "cuMemFree_v2");
    *(void **)&driver->set_u32 = driver_symbol(driver, "cuMemsetD32Async");
    return true;
}

static inline void driver_close(struct driver *driver)
{
    CHECK_EQ(0, dlclose(driver->library));
}

static inline void driver_enter(const struct driver *driver)
{
    CHECK_EQ(0, driver->push(driver->context));
}

static inline void driver_leave(const struct driver *driver)
{
    void *context;
    CHECK_EQ(0, driver->pop(&context));
    CHECK(context == driver->context);
}

/* A non-blocking stream. */
static inline void *driver_stream_create(const struct driver *driver)
{
    void *stream;
    driver_enter(driver);
    CHECK_EQ(0, driver->stream_create(&stream, 1, 0));
    driver_leave(driver);
    return stream;
}

static inline void driver_stream_destroy(const struct driver *driver, void *stream)
{
    driver_enter(driver);
    CHECK_EQ(0, driver->stream_destroy(stream));
    driver_leave(driver);
}

static inline uint64_t driver_allocate(const struct driver *driver, size_t size)
{
    uint64_t address;
    driver_enter(driver);
    CHECK_EQ(0, driver->allocate(&address, size));
    driver_leave(driver);
    return address;
}

static inline void driver_free(const struct driver *driver, uint64_t address)
{
    driver_enter(driver);
    CHECK_EQ(0, driver->free(address));
    driver_leave(driver);
}

/* Enqueues the filling of `count` words. */
static inline void driver_set(const struct driver *driver, uint64_t address, uint32_t value,
                              size_t count, void *stream)
{
    driver_enter(driver);
    CHECK_EQ(0, driver->set_u32(address, value, count, stream));
    driver_leave(driver);
}

#endif
