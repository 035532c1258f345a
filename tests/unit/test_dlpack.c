/* SPDX-License-Identifier: MIT */
/* Tensors in and out with every allocation failing once, and with nothing left on the driver. */
#include "support/dlpack.h"
#include "support/fakecuda/fakecuda.h"
#include "support/fault.h"
#include "support/unit.h"

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

static void tensors_survive_no_memory_on(const char *device_name)
{
    struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
    while (fault_next(&fault)) {
        mr_device *device;
        struct foreign foreign;
        foreign_init(&foreign);
        assert_ok(mr_device_open(device_name, NULL, &device));
        fault_begin(&fault);
        const mr_status status = go_round(device, &foreign);
        fault_end(&fault, status);
        /* Taken and deleted once, or not taken. */
        assert_true(atomic_load(&foreign.deletions) == 1 || (status && fault.nth <= 2));
        assert_ok(mr_device_close(device));
    }
    assert_true(fault.nth > 6);
}

static void tensors_survive_no_memory(void **state)
{
    (void)state;
    tensors_survive_no_memory_on("cpu");
    tensors_survive_no_memory_on("cuda");
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
