/* SPDX-License-Identifier: MIT */
/*
 * millrace/millrace.h - everything, one noun after the other.
 */
#ifndef MR_MILLRACE_H
#define MR_MILLRACE_H

#include <millrace/version.h>

#include <millrace/status.h>

#include <millrace/device.h>

#include <millrace/stream.h>

#include <millrace/event.h>

#include <millrace/buffer.h>

#include <millrace/kernel.h>

#include <millrace/dlpack.h>

#include <millrace/graph.h>

#include <millrace/operation.h>

#include <millrace/ring.h>

#include <millrace/staging.h>

#include <millrace/transfer.h>

#include <millrace/concurrency.h>

#include <millrace/pipeline.h>

#include <millrace/balancer.h>

#include <millrace/loader.h>

#endif
