#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dlpack_arrays.py LIBMILLRACE: buffers to and from NumPy and PyTorch, where they are installed, by
DLPack through the C library alone. Exit 77 where neither is here.

    there and back by either form, no copy; deleters called; a read-only array gives a read-only buffer;
    with PyTorch and a GPU, CUDA tensors likewise
"""
import ctypes
import sys

c = ctypes
library = c.CDLL(sys.argv[1])
library.mr_last_error.restype = c.c_char_p
for name in ("mr_buffer_host",):
    getattr(library, name).restype = c.c_void_p
library.mr_buffer_address.restype = c.c_uint64
library.mr_buffer_size.restype = c.c_size_t
library.mr_buffer_is_read_only.restype = c.c_bool

python = c.pythonapi
python.PyCapsule_GetPointer.restype = c.c_void_p
python.PyCapsule_GetPointer.argtypes = [c.py_object, c.c_char_p]
python.PyCapsule_SetName.argtypes = [c.py_object, c.c_char_p]
python.PyCapsule_New.restype = c.py_object
python.PyCapsule_New.argtypes = [c.c_void_p, c.c_char_p, c.c_void_p]
python.PyCapsule_IsValid.argtypes = [c.py_object, c.c_char_p]
kept = []  # capsule names must outlive their capsules


def check(status):
    if status:
        sys.exit(f"status {status}: {library.mr_last_error().decode()}")


def open_device(name):
    device = c.c_void_p()
    check(library.mr_device_open(name.encode(), None, c.byref(device)))
    return device


def take(device, array, versioned):
    """The array as a buffer; the capsule is used up."""
    arguments = {"max_version": (1, 0)} if versioned else {}
    capsule = array.__dlpack__(**arguments)
    for form, name, used, call in (
        ("versioned", b"dltensor_versioned", b"used_dltensor_versioned",
         library.mr_buffer_from_dlpack_versioned),
        ("plain", b"dltensor", b"used_dltensor", library.mr_buffer_from_dlpack),
    ):
        if python.PyCapsule_IsValid(capsule, name):
            buffer = c.c_void_p()
            tensor = python.PyCapsule_GetPointer(capsule, name)
            check(call(device, c.c_void_p(tensor), None, c.byref(buffer)))
            kept.append(used)
            python.PyCapsule_SetName(capsule, used)
            return buffer
    sys.exit("an array gave no DLPack capsule")


class Lent:
    """A buffer as an object that array libraries take."""

    def __init__(self, buffer, device):
        self.buffer, self.device = buffer, device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **arguments):
        tensor = c.c_void_p()
        versioned = arguments.get("max_version") is not None
        call = library.mr_buffer_to_dlpack_versioned if versioned else library.mr_buffer_to_dlpack
        check(call(self.buffer, None, c.byref(tensor)))
        name = b"dltensor_versioned" if versioned else b"dltensor"
        kept.append(name)
        return python.PyCapsule_New(tensor, name, None)


def with_numpy(numpy, device):
    for versioned in (False, True):
        array = numpy.arange(24, dtype=numpy.float32).reshape(2, 3, 4)
        before = sys.getrefcount(array)
        try:
            buffer = take(device, array, versioned)
        except TypeError:  # NumPy before 2.1 has no versions
            continue
        assert library.mr_buffer_host(buffer) == array.ctypes.data
        assert library.mr_buffer_size(buffer) == 96
        again = numpy.from_dlpack(Lent(buffer, (1, 0)))
        library.mr_buffer_destroy(buffer)
        array[1, 2, 3] = 77  # the memory is still there, and one
        assert again.view(numpy.float32)[23] == 77
        del again
        assert sys.getrefcount(array) == before, "a deleter was not called"

    array = numpy.arange(8, dtype=numpy.uint8)
    array.flags.writeable = False
    try:
        buffer = take(device, array, True)
    except (TypeError, BufferError):
        return
    assert library.mr_buffer_is_read_only(buffer)
    library.mr_buffer_destroy(buffer)


def with_torch(torch, device, place):
    for versioned in (False, True):
        tensor = torch.arange(24, dtype=torch.float32, device=place)
        if tensor.is_cuda:
            torch.cuda.synchronize()
        try:
            buffer = take(device, tensor, versioned)
        except TypeError:  # PyTorch before 2.9 has no versions
            continue
        address = library.mr_buffer_address if tensor.is_cuda else library.mr_buffer_host
        assert address(buffer) == tensor.data_ptr()
        again = torch.from_dlpack(Lent(buffer, (2, tensor.device.index) if tensor.is_cuda else (1, 0)))
        library.mr_buffer_destroy(buffer)
        tensor[23] = 77
        assert again.view(torch.float32)[23].item() == 77
        del again
    assert tensor.sum().item() == sum(range(23)) + 77


def main():
    done = []
    device = open_device("cpu")
    try:
        import numpy
        with_numpy(numpy, device)
        done.append(f"NumPy {numpy.__version__}")
    except ImportError:
        pass
    try:
        import torch
        with_torch(torch, device, "cpu")
        done.append(f"PyTorch {torch.__version__}")
        if torch.cuda.is_available():
            gpu = open_device("cuda:0")
            with_torch(torch, gpu, "cuda:0")
            check(library.mr_device_close(gpu))
            done.append("PyTorch on CUDA")
    except ImportError:
        pass
    check(library.mr_device_close(device))
    if not done:
        print("skipped: neither NumPy nor PyTorch is here")
        sys.exit(77)
    print("there and back: " + ", ".join(done))


main()
