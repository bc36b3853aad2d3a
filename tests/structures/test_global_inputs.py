"""Numbers of a whole structure: from its ``info`` to the model, wherever structures are evaluated."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from charged_toy import charged_toy
from runs import RECIPE

import equiprune as ep
from equiprune.commands.summary import describe_model
from equiprune.errors import StructureError, TargetError
from equiprune.evaluation.dynamics import simulation
from equiprune.evaluation.dynamics.torch_sim import TorchSimEngine
from equiprune.evaluation.properties.locality import Locality
from equiprune.evaluation.properties.measuring import check_possible, model_of
from equiprune.structures.global_inputs import GlobalInput
from equiprune.structures.graph import AtomicGraph
from equiprune.training.loading import Loader, Request
from equiprune.training.objective import mace_universal
from equiprune.training.scan import scan_dataset

CHARGES = (0, 2, -3)


@pytest.fixture(scope="module")
def charged() -> ep.Potential:
    return charged_toy()


def crystals() -> list[Atoms]:
    """One crystal, neutral because nothing is said, and charged."""
    found = [bulk("SiC", "zincblende", a=4.4) for _ in CHARGES]
    for atoms, charge in zip(found, CHARGES, strict=True):
        atoms.rattle(0.05, seed=1)
        atoms.info = {"charge": charge, "id": "a"} if charge else {"id": "a"}
    return found


@pytest.fixture(scope="module")
def labelled(charged: ep.Potential) -> list[Atoms]:
    """With labels of the model, each in its state."""
    return list(ep.label(charged, crystals()))


def test_a_graph_has_a_row_for_each_structure() -> None:
    inputs = (GlobalInput("charge", 0.0), GlobalInput("spin", 1.0))
    graph = AtomicGraph.from_structures(crystals(), 3.0, torch.float32, inputs=inputs)
    assert graph.global_inputs.tolist() == [[0, 1], [2, 1], [-3, 1]]
    assert graph.global_inputs.dtype == torch.float32
    assert AtomicGraph.from_structures(crystals(), 3.0, torch.float32).global_inputs.shape == (3, 0)


def test_predictions_are_those_of_each_state_alone_or_together(charged: ep.Potential, toy: ep.Potential) -> None:
    structures = crystals()
    expected = toy.predict([structures[0]])[0]
    together, alone = charged.predict(structures), [charged.predict([atoms])[0] for atoms in structures]
    for charge, *found in zip(CHARGES, together, alone, strict=True):
        for prediction in found:
            for name in ("energy", "forces", "stress", "atom_energies"):
                right = getattr(expected, name) * (1 + charge / 10)
                torch.testing.assert_close(getattr(prediction, name), right, rtol=0, atol=1e-12)
    assert [atoms.info for atoms in structures] == [atoms.info for atoms in crystals()]


def test_the_calculator_notices_another_charge(charged: ep.Potential) -> None:
    atoms = crystals()[0]
    atoms.calc = charged.calculator()
    neutral, held = atoms.get_potential_energy(), atoms.calc.results
    atoms.info["id"] = "b"
    atoms.get_potential_energy()
    assert atoms.calc.results is held  # nothing that the model reads has changed
    atoms.info["charge"] = 1
    assert atoms.get_potential_energy() == pytest.approx(1.1 * neutral)


def test_labels_training_and_evaluation_see_the_state(charged: ep.Potential, labelled: list[Atoms]) -> None:
    energies = [atoms.get_potential_energy() for atoms in labelled]
    np.testing.assert_allclose(energies, energies[0] * np.array([1, 1.2, 0.7]), rtol=1e-12)
    [accuracy] = ep.evaluate({"itself": charged}, labelled)
    assert accuracy.rmse("energy") < 1e-12
    assert accuracy.rmse("forces") < 1e-12
    [batch] = Loader.of(charged, {"training": labelled})([Request("training", [2, 0])])
    assert batch.graph.global_inputs.tolist() == [[-3], [0]]
    neutral = [atoms.copy() for atoms in labelled]
    for before, after in zip(labelled, neutral, strict=True):
        after.calc, after.info = before.calc, {}
    inputs = charged.architecture.global_inputs
    digests = [
        scan_dataset({"training": some}, mace_universal(), charged.elements, lambda _: None, inputs=inputs)
        for some in (labelled, neutral)
    ]
    assert digests[0] != digests[1]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too large": (
        {"charge": 4},
        "has charge 4. This model takes a whole number from -3 to 3, as charge in the info of the structure (0 where",
    ),
    "a part": ({"charge": 0.5}, "has charge 0.5. This"),
    "not a number": ({"charge": float("nan")}, "has charge nan. This"),
    "endless": ({"charge": float("inf")}, "has charge inf. This"),
    "a word": ({"charge": "1"}, "has charge '1'. This"),
    "nothing": ({"charge": None}, "has charge None. This"),
    "a truth value": ({"charge": np.True_}, "has charge True. This"),
    "several": ({"charge": [0, 1]}, "has charge [0, 1]. This"),
    "by another name": (
        {"total_charge": 1},
        "has total_charge in its info, and this model reads charge. Rename it: without charge, 0 would be taken.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_charge_is_refused(name: str, charged: ep.Potential) -> None:
    info, says = REFUSED[name]
    bad = crystals()[0]
    bad.info = info
    with pytest.raises(StructureError) as caught:
        charged.predict([crystals()[0], bad])
    assert str(caught.value).startswith(f"Structure 1 (CSi) {says}")


@pytest.mark.parametrize("value", [1, 1.0, np.int64(1), np.float32(1), np.array(1)], ids=lambda v: type(v).__name__)
def test_numbers_of_any_kind_are_taken(value: Any) -> None:
    assert GlobalInput("charge", 0.0, range(2)).of(Atoms("H", info={"charge": value})) == 1


def test_a_default_that_is_not_allowed_is_not_taken() -> None:
    with pytest.raises(StructureError, match=r"H has spin 1.0. This model takes a whole number from 0 to 0"):
        GlobalInput("spin", 1.0, range(1)).of(Atoms("H"))


def test_without_a_table_any_finite_number_is_taken() -> None:
    charge = GlobalInput("charge", 0.0)
    assert charge.of(Atoms("H", info={"charge": -0.25})) == -0.25
    for value in (float("inf"), float("nan")):
        with pytest.raises(StructureError, match="This model takes a finite number"):
            charge.of(Atoms("H", info={"charge": value}))


def test_it_is_refused_before_any_work(charged: ep.Potential, labelled: list[Atoms], tmp_path: Path) -> None:
    bad, wrong = crystals(), [atoms.copy() for atoms in labelled]
    for atoms, before in zip(wrong, labelled, strict=True):
        atoms.calc = before.calc
    for some in (bad, wrong):
        some[1].info["charge"] = 9
    with pytest.raises(StructureError, match=r"Structure 1 for training \(CSi\) has charge 9"):
        ep.train(charged, wrong, RECIPE, tmp_path / "run")
    with pytest.raises(StructureError, match=r"Structure 1 \(CSi\) has charge 9"):
        list(ep.label(charged, bad))
    with pytest.raises(StructureError, match=r"Structure 1 \(CSi\) has charge 9"):
        ep.calibrate(charged, bad)


def test_info_says_what_is_read(charged: ep.Potential, toy: ep.Potential) -> None:
    facts = describe_model(charged.adapter, charged.checkpoint)
    assert facts["global_inputs"] == {"charge": "a whole number from -3 to 3 (0 where there is none)"}
    assert "global_inputs" not in describe_model(toy.adapter, toy.checkpoint)


def test_dynamics_is_of_the_charged_structure(charged: ep.Potential, toy: ep.Potential) -> None:
    neutral, once = (simulation._start(atoms, [toy, charged]) for atoms in crystals()[:2])
    assert (neutral.info, once.info) == ({}, {"charge": 2})
    assert simulation._start(crystals()[1], [toy]).info == {}
    assert simulation._fingerprint(neutral) != simulation._fingerprint(once)


def test_what_sees_atoms_alone_is_refused(charged: ep.Potential) -> None:
    atoms = crystals()[1]
    atoms.calc = charged.calculator()
    with pytest.raises(TargetError, match="This model reads charge of a structure"):
        ep.torch_sim_model(charged)
    with pytest.raises(TargetError, match="in dynamics `engine` ase"):
        TorchSimEngine().check(ep.NVE(), atoms)


def test_properties_are_of_structures_as_usual(charged: ep.Potential, toy: ep.Potential) -> None:
    """Cells are repeated and deformed, of which a charge is no more."""
    neutral, once = (Locality().of({"1 CSi": atoms}) for atoms in crystals()[:2])
    check_possible({"charged": model_of(charged)}, [neutral])
    check_possible({"toy": model_of(toy)}, [once])
    with pytest.raises(TargetError, match=r"1 CSi has charge 2 in its info.*at charge 0. Leave it out"):
        check_possible({"charged": model_of(charged)}, [once])
