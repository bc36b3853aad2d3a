"""Models that sevenn downloads, by their published hyperparameters: full parity, several tasks, every element there is.

The files themselves were not at hand. What is checked: the number of parameters of the official configurations, and on
small random models of the same kind what is checked of every other.
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ase import Atoms
from ase.data import chemical_symbols
from random_models import architecture, random_checkpoint

import equiprune as ep
from equiprune.adapters import Checkpoint
from equiprune.adapters.sevennet import SevenNetAdapter, export
from equiprune.adapters.sevennet.architecture import HeadUse, Rescale, SelfConnection, SevenNetArchitecture, from_config
from equiprune.pruning.cost import count_parameters
from equiprune.structures.probes import probe_structures
from equiprune.testing import assert_same_predictions
from equiprune.training.optimisation import Optimisation

pytestmark = pytest.mark.usefixtures("plain_code")

EVERY_ELEMENT = tuple(range(119))
"""sevenn's ``univ``: a placeholder of atomic number 0 comes first."""

WITHOUT_INVERSION_TWINS = "128x0e+64x1o+32x2e+32x3o"


def official(heads: int, hidden: list[str] | None = None) -> SevenNetArchitecture:
    """The configuration in sevenn's preset for fine-tuning SevenNet-MF-ompa, or the same with other features."""
    folder = Path(importlib.util.find_spec("sevenn").origin).parent  # type: ignore[union-attr, arg-type]
    config: dict[str, Any] = yaml.safe_load((folder / "presets" / "mf_ompa_fine_tune.yaml").read_text())["model"]
    hidden = hidden or config["irreps_manual"]
    config |= {
        "version": "0.13.0",
        "irreps_manual": hidden,
        "num_convolution_layer": len(hidden) - 1,
        "_type_map": {z: z for z in EVERY_ELEMENT},
        "use_modality": True,
        "_modal_map": {str(head): head for head in range(heads)},
        "use_modal_wise_shift": True,
        "use_modal_wise_scale": False,
        "conv_denominator": [1.0] * (len(hidden) - 1),
    }
    return from_config(config, (heads, len(EVERY_ELEMENT)))


@pytest.mark.parametrize(
    ("published", "arch"),
    [
        (25_734_966, official(2)),
        (54_921_363, official(13, ["128x0e", *[WITHOUT_INVERSION_TWINS] * 11, "128x0e"])),
    ],
    ids=["7net-mf-ompa", "7net-omni-i12"],
)
def test_the_parameters_are_those_that_matbench_discovery_lists(published: int, arch: SevenNetArchitecture) -> None:
    """models/sevennet in janosh/matbench-discovery, which leaves out energy scales and denominators."""
    count = count_parameters(SevenNetAdapter(), arch)
    assert count.all - len(EVERY_ELEMENT) - arch.interactions == published


@pytest.fixture(scope="module")
def tasks() -> Checkpoint:
    """The kind of SevenNet-MF-ompa, small: two tasks, odd scalars, tensor products with the species, a placeholder."""
    return random_checkpoint(
        architecture(
            ("5x0e", "5x0e+3x1o+2x2e", "4x0o+5x0e+3x1o+2x1e+2x2o+2x2e", "5x0e"),
            elements=(0, 1, 8, 11, 14, 17, 29),
            parity=True,
            self_connection=(SelfConnection.NEQUIP,) * 3,
            cutoff_function={"cutoff_function_name": "XPLOR", "cutoff_on": 4.0},
            heads=("mpa", "omat24"),
            head_use=HeadUse(False, True, True, True, True, False),
            rescale=Rescale.PER_HEAD,
        )
    )


@pytest.fixture(scope="module")
def parent(tasks: Checkpoint) -> ep.Potential:
    return ep.Potential.create(SevenNetAdapter(), tasks, torch.float64, "omat24")


@pytest.fixture(scope="module")
def crystals(parent: ep.Potential) -> list[Atoms]:
    return list(probe_structures(parent.elements).values())


def test_probes_have_no_placeholder_for_an_atom(crystals: list[Atoms]) -> None:
    assert all(chemical_symbols[0] not in atoms.get_chemical_symbols() for atoms in crystals)


@pytest.mark.parametrize(
    "targets",
    [
        [ep.Lmax(1), ep.EdgeLmax(1)],
        [ep.Parameters(0.4), ep.Elements((8, 14, 29))],
        [ep.RadialWidth((5,)), ep.Heads(("mpa", "omat24"))],
    ],
    ids=["l", "channels and elements", "radial networks"],
)
@pytest.mark.supports("SevenNet of several tasks, as 7net-mf-ompa (random weights)", "cuts")
@pytest.mark.supports("SevenNet of several tasks, as 7net-mf-ompa (random weights)", "exact")
def test_cuts_are_exact(targets: list[Any], parent: ep.Potential, crystals: list[Atoms]) -> None:
    plan = ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Random(0)))
    child = ep.prune(parent, plan)
    known = [atoms for atoms in crystals if set(atoms.numbers.tolist()) <= set(child.elements)]
    assert known
    assert_same_predictions(ep.masked(parent, plan), child, known)
    assert child.parameters(trainable_only=True) < parent.parameters(trainable_only=True)


@pytest.mark.supports("SevenNet of several tasks, as 7net-mf-ompa (random weights)", "exports")
@pytest.mark.supports("SevenNet of several tasks, as 7net-mf-ompa (random weights)", "trains")
def test_one_task_is_taken_out_and_stock_sevenn_opens_it(
    parent: ep.Potential, crystals: list[Atoms], tmp_path: Path
) -> None:
    child = ep.prune(parent, ep.allocate(parent, [ep.Heads(("omat24",)), ep.Elements((8, 11, 17))]))
    [ionic] = [atoms for atoms in crystals if set(atoms.numbers.tolist()) <= set(child.elements)][:1]
    assert_same_predictions(parent, child, [ionic])
    recipe = ep.Recipe(ep.PRESETS["sevennet"].objective, Optimisation(1e-3, average=None), epochs=2, batch_size=1)
    trained = ep.train(child, list(ep.label(parent, [ionic])), recipe, tmp_path / "run")
    assert [step["step"] for step in trained.checkpoint.history][-2:] == ["prune", "train"]
    ep.save(trained, tmp_path / "task.pth")  # compared with what the stock calculator gives


@pytest.mark.supports("SevenNet of several tasks, as 7net-mf-ompa (random weights)", "opens")
@pytest.mark.supports("SevenNet of several tasks, as 7net-mf-ompa (random weights)", "stock tool")
def test_stock_sevenn_opens_all_tasks(tasks: Checkpoint, parent: ep.Potential, tmp_path: Path) -> None:
    """The placeholder stays one of its species."""
    path = tmp_path / "tasks.pth"
    export.write(tasks, path)
    read = ep.read_checkpoint(path)[1]
    assert (read.architecture.elements, read.architecture.heads) == (tasks.architecture.elements, ("mpa", "omat24"))
    [atoms] = list(probe_structures((11, 17)).values())[:1]
    [stock] = export.stock_energies(path, [atoms], "omat24")
    assert abs(stock - parent.predict([atoms])[0].energy.item()) < 1e-4 * len(atoms)
