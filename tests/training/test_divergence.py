"""Training that diverges ends with the names of the structures."""

import math
from pathlib import Path

import pytest
from ase import Atoms
from runs import labelled, moved, plain, run, student, vacuum

from equiprune.errors import StructureError
from equiprune.training.objective import mace_weighted
from equiprune.training.recipe import Recipe


def carbon() -> Atoms:
    """A molecule that no other structure has the formula of."""
    return vacuum(Atoms("C3", positions=[[0, 0, 0], [1.3, 0.1, 0], [0.2, 1.4, 0]]))


def test_divergence_names_the_structures(tmp_path: Path) -> None:
    recipe = Recipe(mace_weighted(), plain(learning_rate=1e200), epochs=2, batch_size=8)
    with pytest.raises(StructureError, match="Training has diverged: the predictions for") as refusal:
        run(tmp_path / "run", recipe, validation=())
    assert all(atoms.get_chemical_formula() in str(refusal.value) for atoms in labelled())
    assert "Lower the learning rate" in str(refusal.value)


def test_divergence_that_shows_in_validation_names_the_structure(tmp_path: Path) -> None:
    recipe = Recipe(mace_weighted(), plain(learning_rate=1e200), epochs=2, batch_size=8)
    with pytest.raises(
        StructureError,
        match=r"diverged: the predictions for structure 0 \(C3\) for validation are not finite",
    ):
        run(tmp_path / "run", recipe, validation=[carbon()])


def test_one_bad_structure_of_many_is_named_alone(tmp_path: Path) -> None:
    start, recipe = moved(student(), "shift", 1, math.inf), Recipe(mace_weighted(), batch_size=9)  # carbon's energy
    with pytest.raises(StructureError, match=r"the predictions for structure 6 \(C3\) for training are not finite"):
        run(tmp_path / "run", recipe, potential=start, structures=[*labelled()[2:], carbon()], validation=())


@pytest.mark.parametrize("clip", [None, 10.0])
def test_a_gradient_that_is_not_finite_names_the_structures(clip: float | None, tmp_path: Path) -> None:
    """Predictions of 1e160 are finite, their squares and the gradient are not."""
    huge = moved(student(), "readout_weight", 0, 1e160)
    recipe = Recipe(mace_weighted(), plain(clip=clip), epochs=1, batch_size=8)
    with pytest.raises(StructureError, match="Training has diverged: the gradient for") as refusal:
        run(tmp_path / "run", recipe, potential=huge, structures=[carbon()], validation=())
    assert "C3" in str(refusal.value)
    assert not (tmp_path / "run" / "state.pt").exists()
