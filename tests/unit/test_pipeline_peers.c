/* SPDX-License-Identifier: MIT */
/* Pipelines over several GPUs of the stand-in driver, peers or not, and the CPU. */
#include "support/unit.h"

#include "../conformance/pipeline_model.h"

#include <stdlib.h>

static struct model across(mr_device *const *devices, const char *name)
{
    struct model model = model_linear(name, devices[1], devices[0]);
    model.nodes[1].device = devices[1];
    model.nodes[2].device = devices[2];
    model.nodes[3].device = devices[1];
    return model;
}

static void run_across(mr_device *const *devices)
{
    struct model model = across(devices, "there and back");
    model.options.parcel_items = 8;
    model_run_through(&model);

    /* Both GPUs and the CPU read the same output. */
    model = across(devices, "everywhere");
    model.nodes[1] = model_stage(1, 5);
    model.nodes[1].device = devices[1];
    model.nodes[2] = model_stage(2, 6);
    model.nodes[2].device = devices[2];
    model.nodes[3] = model_work(2, 7);
    model.nodes[4] = model_stage(3, 8);
    model.nodes[4].device = devices[1];
    model.nodes[4].inputs[1] = 4;
    model.nodes[4].inputs[2] = 2;
    model.nodes[5] = model_out(5, MODEL_TOGETHER);
    model.nodes[6] = model_out(3, MODEL_MEMORY);
    model.node_count = 7;
    model.run_count = 2;
    model_run_through(&model);
}

static void run_on_two_gpus(bool are_peers)
{
    mr_device *devices[3];
    setenv("FAKECUDA_DEVICES", "2", 1);
    if (!are_peers)
        setenv("FAKECUDA_NO_PEERS", "1", 1);
    assert_ok(mr_device_open("cpu", NULL, &devices[0]));
    assert_ok(mr_device_open("cuda:0", NULL, &devices[1]));
    assert_ok(mr_device_open("cuda:1", NULL, &devices[2]));
    assert_int_equal(are_peers, mr_device_can_peer(devices[1], devices[2]));

    run_across(devices);

    for (int i = 2; i >= 0; i--)
        assert_ok(mr_device_close(devices[i]));
    unsetenv("FAKECUDA_NO_PEERS");
    unsetenv("FAKECUDA_DEVICES");
}

static void peers_hand_items_on_directly(void **state)
{
    (void)state;
    run_on_two_gpus(true);
}

static void others_go_through_the_host(void **state)
{
    (void)state;
    run_on_two_gpus(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_hand_items_on_directly),
        cmocka_unit_test(others_go_through_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
