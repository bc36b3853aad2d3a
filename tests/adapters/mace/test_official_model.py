"""MACE-MP-0 small reads as stock MACE itself reads it: hyperparameters, weights, predictions, licence."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ase import Atoms
from plain_code import plain
from random_mace import LINEAR
from stock_modules import SILU, assert_stock, unpickled

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.architecture import Block, Interaction, MaceArchitecture, Readout, ReadoutKind
from equiprune.training.optimisation import Optimisation


def test_the_official_file_has_the_hyperparameters_it_was_trained_with(official: Path) -> None:
    def interaction(readout: Readout) -> Interaction:
        return Interaction(
            block=Block.RESIDUAL,
            edge_irreps="128x0e",
            edge_lmax=3,
            a_basis="128x0e+128x1o+128x2e+128x3o",
            hidden_irreps="128x0e",
            correlation=3,
            radial_widths=(64, 64, 64),
            avg_num_neighbors=61.964672446250916,
            readout=readout,
        )

    assert MaceAdapter().read(official).architecture == MaceArchitecture(
        elements=(*range(1, 84), *range(89, 95)),
        cutoff=6.0,
        channels=128,
        steps=(interaction(LINEAR), interaction(Readout(ReadoutKind.NONLINEAR, 16))),
        radial_basis=10,
        cutoff_power=5,
        activation_constants={"silu": SILU},
    )


def test_it_has_the_published_number_of_parameters_and_is_stock(parent: ep.Potential) -> None:
    assert parent.parameters() == parent.parameters(trainable_only=True) == 3_847_696
    assert parent.architecture.stock


@pytest.mark.supports("MACE-MP-0 (the official small file)", "trains")
def test_a_small_piece_of_it_learns_of_the_whole(parent: ep.Potential, probes: list[Atoms], tmp_path: Path) -> None:
    """The parts that are left of it are trained, and make an ordinary model that stock MACE opens."""
    molecule = next(atoms for atoms in probes if set(atoms.numbers) <= {1, 8})
    labelled = list(ep.label(parent, [molecule]))
    with plain():
        scores = ep.data_free_scores(parent, ep.Magnitude())
        child = ep.prune(parent, ep.allocate(parent, [ep.Channels(8), ep.EdgeLmax(1), ep.Elements((1, 8))], scores))
        objective = ep.PRESETS["mace-universal"].objective
        recipe = ep.Recipe(objective, Optimisation(1e-2, average=None), epochs=5, batch_size=1)
        trained = ep.train(child, labelled, recipe, tmp_path / "run")
    before, after = ep.evaluate({"before": child, "after": trained}, labelled)
    assert after.mae("forces") < before.mae("forces")
    ep.save(trained, tmp_path / "small.model")
    assert_stock(trained, unpickled(tmp_path / "small.model"), [molecule])


@pytest.mark.supports("MACE-MP-0 (the official small file)", "opens")
def test_every_weight_and_constant_is_that_of_upstreams_own_unpickler(official: Path, parent: ep.Potential) -> None:
    """The coupling tensors, which are rebuilt, included."""
    theirs, ours = unpickled(official).state_dict(), parent.module.state_dict()
    weights = parent.checkpoint.weights
    assert weights.keys() < theirs.keys() <= ours.keys()
    assert sum("U_matrix" in name for name in theirs) == 6
    assert [name for name in theirs if not torch.equal(theirs[name], ours[name])] == []
    assert [name for name in weights if weights[name].dtype != theirs[name].dtype] == []
    assert all(name.endswith("_zeroed") and not ours[name].any() for name in ours.keys() - theirs.keys())


def test_its_predictions_are_those_of_the_stock_calculator(
    official: Path, parent: ep.Potential, probes: list[Atoms]
) -> None:
    assert_stock(parent, unpickled(official), probes)


def test_its_licence_is_known_by_its_content(official: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine.model"
    shutil.copy(official, elsewhere)
    assert MaceAdapter().read(elsewhere).licence == "MIT"
    with elsewhere.open("ab") as stream:
        stream.write(b"\0")
    assert MaceAdapter().read(elsewhere).licence == "unknown"


READ_WITHOUT_BACKEND = """
import sys
for name in ("mace", "e3nn", "opt_einsum_fx"):
    sys.modules[name] = None
from equiprune.potentials.checkpoint import read_checkpoint
from equiprune.commands.summary import describe_model
adapter, checkpoint = read_checkpoint(sys.argv[1])
print(describe_model(adapter, checkpoint)["parameters"]["all"])
print([name for name in sys.modules if name.split(".")[0] in ("mace", "e3nn") and sys.modules[name]])
"""


def test_reading_needs_neither_mace_nor_e3nn(official: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", READ_WITHOUT_BACKEND, str(official)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["3847696", "[]"]
