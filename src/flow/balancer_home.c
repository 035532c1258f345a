/* SPDX-License-Identifier: MIT */
/*
 * Which worker had an affinity last. A fixed table: when it is full the least recently used is
 * forgotten, which costs a task its preference and nothing else.
 */
#include "flow/balancer_parts.h"

static struct mr__affinity *set_of(const mr_balancer *balancer, uint64_t key)
{
    const uint64_t mixed = key * UINT64_C(0x9e3779b97f4a7c15);
    return balancer->affinities + (mixed >> 32) % MR__AFFINITY_SETS * MR__AFFINITY_WAYS;
}

uint32_t mr__affinity_find(const mr_balancer *balancer, uint64_t key)
{
    const struct mr__affinity *set = set_of(balancer, key);
    for (int i = 0; i < MR__AFFINITY_WAYS; i++) {
        if (set[i].key == key)
            return set[i].worker;
    }
    return MR__MODEL_NONE;
}

void mr__affinity_note(mr_balancer *balancer, uint64_t key, uint32_t worker)
{
    struct mr__affinity *set = set_of(balancer, key);
    struct mr__affinity *oldest = set;
    const uint32_t stamp = ++balancer->affinity_stamp;
    for (int i = 0; i < MR__AFFINITY_WAYS; i++) {
        if (set[i].key == key) {
            oldest = &set[i];
            break;
        }
        if (stamp - set[i].stamp > stamp - oldest->stamp)
            oldest = &set[i];
    }
    *oldest = (struct mr__affinity){ .key = key, .worker = worker, .stamp = stamp };
}
