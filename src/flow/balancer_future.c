/* SPDX-License-Identifier: MIT */
/*
 * Futures: one task's outcome, asked for by whoever submitted it.
 */
#include "flow/balancer_parts.h"

static mr_status refuse(const char *call)
{
    return mr_error_set(MR_E_INVALID, "%s: future is NULL", call);
}

static bool has_ended(mr_balancer *balancer, void *context)
{
    (void)balancer;
    return ((const mr_future *)context)->state == MR__TASK_ENDED;
}

static mr_status wait_for(const char *call, mr_future *future, uint64_t timeout_ns)
{
    if (!future)
        return refuse(call);
    mr_balancer *balancer = future->balancer;
    const struct mr__patience patience = mr__patience_begin(timeout_ns);
    pthread_mutex_lock(&balancer->lock);
    mr_status status;
    if (mr__balancer_wait(balancer, has_ended, future, &patience))
        status = mr__task_say(future);
    else if (!timeout_ns)
        status = MR_E_BUSY;
    else if (mr__balancer_is_inside(balancer))
        status = mr__balancer_refuse_inside(call);
    else
        status = mr_error_set(MR_E_TIMEOUT, "%s: task %llu has not ended within the time given",
                              call, (unsigned long long)future->sequence);
    pthread_mutex_unlock(&balancer->lock);
    return status;
}

mr_status mr_future_query(mr_future *future)
{
    return wait_for("mr_future_query", future, 0);
}

mr_status mr_future_wait(mr_future *future)
{
    return wait_for("mr_future_wait", future, MR_FOREVER);
}

mr_status mr_future_wait_for(mr_future *future, uint64_t timeout_ns)
{
    return wait_for("mr_future_wait_for", future, timeout_ns);
}

mr_status mr_future_result(mr_future *future, mr_task_result *result)
{
    if (!future || !result)
        return refuse("mr_future_result");
    *result = (mr_task_result){ .worker = UINT32_MAX };
    pthread_mutex_lock(&future->balancer->lock);
    const bool is_there = future->state == MR__TASK_ENDED;
    if (is_there)
        mr__task_fill_result(future, result);
    pthread_mutex_unlock(&future->balancer->lock);
    return is_there ? MR_OK : MR_E_BUSY;
}

mr_status mr_future_cancel(mr_future *future)
{
    if (!future)
        return refuse("mr_future_cancel");
    mr_balancer *balancer = future->balancer;
    pthread_mutex_lock(&balancer->lock);
    const enum mr__task_state state = future->state;
    if (state == MR__TASK_READY || state == MR__TASK_BLOCKED) {
        mr__task_cancel(future, MR_E_CANCELLED, NULL);
        mr__balancer_drive(balancer, 1);
    }
    pthread_mutex_unlock(&balancer->lock);
    if (state == MR__TASK_READY || state == MR__TASK_BLOCKED)
        return MR_OK;
    return mr_error_set(MR_E_STATE, "mr_future_cancel: task %llu %s",
                        (unsigned long long)future->sequence,
                        state == MR__TASK_ENDED ? "has ended" : "was given to a worker");
}

void mr_future_release(mr_future *future)
{
    if (!future)
        return;
    mr_balancer *balancer = future->balancer;
    pthread_mutex_lock(&balancer->lock);
    mr__task_release(future);
    mr__balancer_leave(balancer);
}
