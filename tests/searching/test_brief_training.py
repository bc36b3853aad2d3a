"""Brief training of a finalist on another device: there the model stays."""

from pathlib import Path
from typing import Any

import lightning_fabric
import pytest
import torch
from ase import Atoms
from elsewhere import PLACE, fabric

import equiprune as ep
from equiprune.searching import material

EFFORT = ep.Effort(steps=1, structures=10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")  # which torch does, here
def test_a_finalist_is_trained_and_judged_on_its_own_device(
    there: ep.Potential, device: torch.device, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    real = lightning_fabric.Fabric

    def made(**given: Any) -> lightning_fabric.Fabric:
        asked.append(given)
        return fabric() if device == PLACE else real(**given)

    monkeypatch.setattr(lightning_fabric, "Fabric", made)
    given: Any = {"parent": there, "training": labelled[:4], "held_out": labelled[4:6], "conditions": None}
    search = material.Material(
        **given, repeats=1, recipe=ep.SearchSettings().recipe, effort=EFFORT, folder=tmp_path, seed=0
    )
    trained = search.trained(there, 0)
    assert asked == [{"accelerator": device.type, "devices": [0]}]
    assert trained.device == device
    assert search.errors(trained).forces != search.errors(there).forces
