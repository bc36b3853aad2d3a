"""Modules of upstream's classes as equiprune builds them."""

import torch
from random_nequix import architecture

from equiprune.adapters.nequix import NequixAdapter


def test_activations_do_not_keep_the_numbers_that_normalised_them() -> None:
    """A million each, which upstream's modules hold as long as they live."""
    module = NequixAdapter().build(architecture(), torch.float32)
    kept = [value.numel() for each in module.modules() for value in vars(each).values() if torch.is_tensor(value)]
    assert max(kept, default=0) < 1000
