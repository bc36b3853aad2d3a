"""Errors that say that memory is out."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """True for what Python, torch on a GPU, and torch and C++ on a CPU raise where memory is out.

    Inside TorchScript, which upstream modules are in parts, the class of an error of the GPU is lost.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    >>> is_out_of_memory(RuntimeError("The following operation failed in TorchScript: CUDA out of memory."))
    True
    """
    on_a_gpu = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    words = ("can't allocate memory", "bad_alloc", "Cannot allocate memory", *on_a_gpu)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)
