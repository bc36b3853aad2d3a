"""Training on another device: the same numbers as on the CPU, also when it was killed and goes on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from elsewhere import PLACE, fabric
from lightning_fabric import Fabric

import equiprune as ep
from equiprune.training.from_scratch import from_scratch
from equiprune.training.objective import Norm, Term
from equiprune.training.references import RefitReferences

CLOSE = 1e-10


def test_where_training_starts(toy: ep.Potential, there: ep.Potential) -> None:
    expected, found = (RefitReferences().apply(p, runs.labelled(2)) for p in (toy, there))
    assert found.said == expected.said
    fresh = [from_scratch(p, seed=4) for p in (toy, there)]
    assert fresh[1].device == there.device
    a, b = (p.predict(runs.labelled()[:1])[0].forces.cpu() for p in fresh)
    torch.testing.assert_close(a, b, rtol=0, atol=CLOSE)


RECIPE = replace(
    runs.RECIPE, objective=replace(runs.RECIPE.objective, hessian=Term(0.5, Norm())), epochs=2, save_every=1
)
"""Everything that a state has to remember, and Hessian products; 8 steps."""


class KilledError(Exception):
    """Stands for the end of a process."""


def killed_after(steps: int) -> Callable[[int], None]:
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if done == steps:
            raise KilledError

    return progress


def trained(folder: Path, processes: Fabric | None, **more: Any) -> ep.Potential:
    held_out = runs.probed(1)[:4]
    return runs.run(folder, RECIPE, structures=runs.probed(), validation=held_out, fabric=processes, **more)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")  # which torch does, here
def test_training_and_going_on_with_it(device: torch.device, tmp_path: Path) -> None:
    expected = trained(tmp_path / "cpu", None)

    def away() -> Fabric:
        return fabric() if device == PLACE else Fabric(accelerator="cuda", devices=1)

    with pytest.raises(KilledError):
        trained(tmp_path / "away", away(), progress=killed_after(5))
    found = trained(tmp_path / "away", away())
    assert found.device == device
    for name, weight in expected.checkpoint.weights.items():
        torch.testing.assert_close(found.checkpoint.weights[name].cpu(), weight, rtol=0, atol=CLOSE)
    for a, b in zip(runs.rows(tmp_path / "cpu"), runs.rows(tmp_path / "away"), strict=True):
        for name, value in a.items():
            if value:
                assert float(b[name]) == pytest.approx(float(value), abs=1e-8, rel=1e-8), name
