/* SPDX-License-Identifier: MIT */
/* Tensors in and out with every allocation failing once, and with nothing left on the driver. */
#include "support/dlpack.h"
#include "support/fakecuda/fakecuda.h"
#include "support/unit.h"

#include "base/alloc.h"

static mr_status go_round(mr_device *device, struct foreign *foreign)
{
    struct DLManagedTensorVersioned *out = NULL;
    struct DLManagedTensor *plain = NULL;
    mr_buffer *buffer, *made = NULL;
    mr_status status = mr_buffer_from_dlpack(device, &foreign->plain, NULL, &buffer);
    if (status)
        return status;
    status = mr_buffer_to_dlpack_versioned(buffer, NULL, &out);
    if (!status)
        status = mr_buffer_create(device, 4096, NULL, &made);
    if (!status)
        status = mr_buffer_to_dlpack(made, NULL, &plain);
    mr_buffer_destroy(made);
    mr_buffer_destroy(buffer);
    if (out)
        out->deleter(out);
    if (plain)
        plain->deleter(plain);
    return status;
}

static bool fail_once(const char *name, uint64_t nth)
{
    mr_device *device;
    struct foreign foreign;
    foreign_init(&foreign);
    assert_ok(mr_device_open(name, NULL, &device));
    mr__alloc_fail_at(nth, false);
    const mr_status status = go_round(device, &foreign);
    const bool has_failed = mr__alloc_has_failed();
    mr__alloc_fail_at(0, false);
    if (status && (status != MR_E_NO_MEMORY || !has_failed || !*mr_last_error()))
        fail_msg("allocation %d: %s: %s", (int)nth, mr_status_name(status), mr_last_error());
    /* Taken and deleted once, or not taken. */
    assert_true(atomic_load(&foreign.deletions) == 1 || (status && nth <= 2));
    assert_ok(mr_device_close(device));
    return has_failed;
}

static void tensors_survive_no_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        uint64_t nth = 1;
        while (fail_once(i ? "cuda" : "cpu", nth))
            nth++;
        assert_true(nth > 6);
    }
    assert_int_equal(fakecuda_live(), 0);
}

static void a_tensor_of_another_gpu_is_refused(void **state)
{
    (void)state;
    mr_device *device;
    struct foreign foreign;
    mr_buffer *buffer;
    foreign_init(&foreign);
    foreign.plain.dl_tensor.device.type = DL_CUDA;
    foreign.plain.dl_tensor.device.id = 1;
    assert_ok(mr_device_open("cuda:0", NULL, &device));
    assert_status(MR_E_INVALID, mr_buffer_from_dlpack(device, &foreign.plain, NULL, &buffer));
    assert_words("the tensor lies on cuda:1, the device given is cuda:0");
    assert_ok(mr_device_close(device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_survive_no_memory),
        cmocka_unit_test(a_tensor_of_another_gpu_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
