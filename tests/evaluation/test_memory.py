"""Memory of the tensors that a piece of work makes."""

import torch

from equiprune.evaluation.memory import tensor_memory

CPU = torch.device("cpu")
NUMBERS = 2**20
"""Of four bytes each."""


def made(count: int) -> list[torch.Tensor]:
    return [torch.ones(NUMBERS) for _ in range(count)]


def test_tensors_that_live_together_are_counted_together() -> None:
    found = tensor_memory(lambda: made(3), CPU)
    assert 3 * 4 * NUMBERS <= found < 3 * 4 * NUMBERS + 1000


def test_a_tensor_that_was_freed_is_counted_no_more() -> None:
    def one_after_the_other() -> None:
        for _ in range(3):
            made(1)

    assert 4 * NUMBERS <= tensor_memory(one_after_the_other, CPU) < 4 * NUMBERS + 1000


def test_what_was_there_before_is_not_counted() -> None:
    before = made(2)
    assert tensor_memory(lambda: before[0].add_(before[1]), CPU) < 1000
    assert tensor_memory(before.clear, CPU) == 0


def test_a_backward_pass_is_counted() -> None:
    def work() -> None:
        given = torch.ones(NUMBERS, requires_grad=True)
        given.square().sum().backward()

    assert tensor_memory(work, CPU) >= 3 * 4 * NUMBERS, "the numbers, their squares or these' gradient, the gradient"


def test_twice_the_same_is_the_same() -> None:
    assert tensor_memory(lambda: made(2), CPU) == tensor_memory(lambda: made(2), CPU)
