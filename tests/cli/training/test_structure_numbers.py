"""Errors say which structure of the file it is, whatever batch, sample or share of the data it was met in."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from command_line import Run
from runs import bare, batch, labelled, run, student, write

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.labelling.hessian_labels import with_products
from equiprune.labelling.label import label
from equiprune.potentials.hessian import Rows, hessian_vector_products
from equiprune.structures.sequences import Concatenation, Mapped, Origin, Selection, origin
from equiprune.training.loading import Loader, Request
from equiprune.training.objective import mace_weighted
from equiprune.training.recipe import Recipe
from equiprune.training.references import KeepReferences, RefitReferences, with_scale_of_forces
from equiprune.training.replay import Replay, relabelled

pytestmark = pytest.mark.slow

COUNT, BAD = 160, 147
"""147 is one of the structures that tell how far labels are from the model."""


def unknown(atoms: Atoms) -> None:
    atoms.numbers[0] = 92


def infinite(atoms: Atoms) -> None:
    atoms.calc.results["energy"] = math.inf


SAYS = {unknown: "Structure {} ({}) has U", infinite: "Structure {}: The energy label of"}


def spoilt(spoil: Callable[[Atoms], None], count: int = COUNT, bad: int = BAD) -> list[Atoms]:
    """Labelled structures of which one cannot be used; ``kind`` is the same for two that follow each other."""
    found = list(label(ep.load("toy"), bare(count)))
    for i, atoms in enumerate(found):
        atoms.info["kind"] = f"k{i // 2}"
    results = found[bad].calc.results
    spoil(found[bad])
    found[bad].calc.results = results  # a calculator forgets them when atoms change
    found[bad].calc.atoms = found[bad].copy()
    return found


@pytest.fixture(scope="module", params=SAYS, ids=lambda spoil: spoil.__name__)
def bad(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[str], str]]:
    """A file, and what an error says of it for a use."""
    found = spoilt(request.param)
    path = write(tmp_path_factory.mktemp("bad") / "bad.extxyz", found)
    formula = found[BAD].get_chemical_formula()
    return path, lambda use: SAYS[request.param].format(f"{BAD}{use}", formula)


# The command line.


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--references", "refit"],
        ["--frames-per-structure", 1, "--structure-key", "kind", "--seed", 1],
    ],
    ids=["keep", "refit", "sample"],
)
def test_training_structures_are_named(
    flags: list[object], bad: tuple[Path, Callable[[str], str]], refused: Run, tmp_path: Path
) -> None:
    """The sample has it as the one of its kind."""
    path, says = bad
    refused("train", "toy", "--data", path, "-o", tmp_path / "run", *flags, says=says(" for training"))


@pytest.mark.parametrize("references", ["keep", "refit"])
@pytest.mark.parametrize("use", ["validation", "replay"])
def test_validation_and_replayed_structures_are_named(
    use: str, references: str, bad: tuple[Path, Callable[[str], str]], refused: Run, labelled: Path, tmp_path: Path
) -> None:
    path, says = bad
    words = ["train", "toy", "--data", labelled, "-o", tmp_path / "run", "--references", references, f"--{use}", path]
    refused(*words, says=says(f" for {use}"))


def test_evaluated_structures_are_named(bad: tuple[Path, Callable[[str], str]], refused: Run) -> None:
    path, says = bad
    refused("evaluate", "toy", "--data", path, says=says(""))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of which one structure has an unknown element."""
    return write(tmp_path_factory.mktemp("foreign") / "foreign.extxyz", spoilt(unknown))


def test_calibrated_structures_are_named_also_when_it_goes_on(cli: Run, foreign: Path, tmp_path: Path) -> None:
    command = ["calibrate", "toy", foreign, "-o", tmp_path / "scores.json"]
    for _ in range(2):
        ran = cli(*command)
        assert ran.code == 2
        assert f"equiprune: Structure {BAD} (" in ran.err
        assert (tmp_path / "scores.json.partial").exists()
    assert "Going on from" in ran.err


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("flags", [[], ["--copies", 2], ["--frames", 1, "--interval", 1]])
def test_labelled_structures_are_named_also_when_it_goes_on(flags: list[object], cli: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "foreign.extxyz", spoilt(unknown, count=24, bad=21))
    command = ["label", "toy", data, "-o", tmp_path / "out.xyz", "--temperature", 50, *flags]
    for _ in range(2):
        ran = cli(*command)
        assert ran.code == 2
        assert "equiprune: Structure 21 (" in ran.err
        assert (tmp_path / "out.xyz.partial").exists()
    assert "Going on from" in ran.err


# Where structures are from.


def test_a_structure_keeps_its_number_in_views_of_views() -> None:
    structures = labelled()
    view = Mapped(Selection(Selection(structures, range(8))[2::2], [2, 1]), lambda atoms: atoms)
    assert [origin(view, i, "training") for i in range(2)] == [Origin(6, "training"), Origin(4, "training")]
    both = Concatenation((view, structures), uses=("training", "replay"))
    assert [origin(both, i) for i in (0, 1, 2, 9)] == [
        Origin(6, "training"),
        Origin(4, "training"),
        Origin(0, "replay"),
        Origin(7, "replay"),
    ]
    assert origin(Concatenation((structures, structures)), 9) == Origin(9)  # shards of one set


def test_a_potential_counts_structures_over_its_batches() -> None:
    structures = [*labelled()[:5], Atoms("U")]
    with pytest.raises(StructureError, match=r"^Structure 5 \(U\) has U"):
        student().predict(structures, batch_atoms=8)
    with pytest.raises(StructureError, match=r"^Structure 5 \(U\) has U"):
        hessian_vector_products(student(), structures, [np.ones((1, len(atoms), 3)) for atoms in structures], 8)
    with pytest.raises(StructureError, match=r"^Structure 5 \(U\) has U"):
        ep.evaluate({"a": student()}, structures, batch_atoms=8)


def test_a_structure_that_is_alone_has_no_number() -> None:
    atoms = Atoms("U")
    atoms.calc = student().calculator()
    with pytest.raises(StructureError, match=r"^The structure \(U\) has U"):
        atoms.get_potential_energy()


def test_products_that_are_not_numbers_name_the_structure() -> None:
    """With two copies of each structure of the file, the first of which has been labelled before."""
    teacher = changed("readout_weight", math.inf)
    origins = (Origin(number // 2) for number in range(1, 99))
    with pytest.raises(StructureError, match=r"^Structure 0 \(.*\): the teacher's Hessian is not finite"):
        list(with_products(teacher, labelled(), Rows(1), numbers=count(1), origins=origins))
    with pytest.raises(StructureError, match=r"^Structure 1 \(.*\): the teacher's Hessian is not finite"):
        list(with_products(teacher, labelled(), Rows(1), numbers=count(1)))


def test_references_are_estimated_on_some_and_name_the_right_one() -> None:
    with pytest.raises(StructureError, match=rf"^Structure {BAD} for training \(.*\) has U"):
        KeepReferences().apply(ep.load("toy"), spoilt(unknown))
    with pytest.raises(StructureError, match=rf"^Structure {BAD} for training: The energy label"):
        RefitReferences().apply(ep.load("toy"), spoilt(infinite))
    with pytest.raises(StructureError, match=rf"^Structure {BAD} for training: The energy label"):
        with_scale_of_forces(ep.load("toy"), spoilt(infinite))


def test_a_broken_label_is_left_to_be_named_when_energies_move() -> None:
    moved = relabelled(spoilt(infinite), {1: 1.0})
    assert moved[BAD].calc.results["energy"] == math.inf


# Divergence.


def changed(name: str, value: float) -> ep.Potential:
    """The student with one weight of another value; ``shift`` has that of carbon."""
    weights = dict(student().checkpoint.weights)
    weights[name] = weights[name].clone()
    weights[name].view(-1)[1 if name == "shift" else 0] = value
    checkpoint = replace(student().checkpoint, weights=weights)
    return ep.Potential.create(student().adapter, checkpoint, student().dtype)


def of_carbon() -> set[int]:
    return {i for i, atoms in enumerate(labelled()) if 6 in atoms.numbers}


def test_a_batch_knows_what_its_structures_are_called() -> None:
    sets = Concatenation((Selection(labelled(), [5, 3, 0]), labelled(1)), uses=("training", "replay"))
    [data] = Loader.of(student(), {"training": sets})([Request("training", [1, 9, 2, 3])])
    first, second, third, fourth = (atoms.get_chemical_formula() for atoms in (sets[i] for i in (1, 9, 2, 3)))
    assert (
        data.called()
        == f"structures 3 ({first}), 0 ({third}) for training and structures 6 ({second}), 0 ({fourth}) for replay"
    )
    assert data.to("cpu").called([1]) == f"structure 6 ({second}) for replay"
    assert batch(student(), labelled()[:1]).called() == f"structure 0 ({labelled()[0].get_chemical_formula()})"


def test_divergence_names_structures_by_number_and_use(tmp_path: Path) -> None:
    carbon, others = sorted(of_carbon()), sorted({*range(8)} - of_carbon())
    assert len(carbon) > 1
    assert others
    infinite_energy, recipe = changed("shift", math.inf), Recipe(mace_weighted(), batch_size=99, epochs=1)
    sample, every = Selection(labelled(), others[::-1]), list(labelled())
    of = ", ".join(rf"{i} \({every[i].get_chemical_formula()}\)" for i in carbon)
    given = {"potential": infinite_energy, "structures": sample}
    replayed = Replay(every, share=0.9)
    with pytest.raises(StructureError, match=r"predictions for structures? \d.* for replay are not finite") as refusal:
        run(tmp_path / "a", recipe, validation=(), replay=replayed, **given)
    assert "for training" not in str(refusal.value)
    with pytest.raises(StructureError, match=rf"predictions for structures {of} for validation are not finite"):
        run(tmp_path / "b", recipe, validation=every, **given)


def test_a_gradient_that_is_not_finite_names_them_too(tmp_path: Path) -> None:
    recipe = Recipe(mace_weighted(), batch_size=9, epochs=1)
    sample = Selection(labelled(), [5, 2])
    with pytest.raises(StructureError, match=r"gradient for structures (5|2) \(.*\), (5|2) \(.*\) for training is not"):
        run(tmp_path / "run", recipe, potential=changed("readout_weight", 1e160), structures=sample, validation=())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "Structure 3 (Si2): ase.calculators.emt:EMT failed (NotImplementedError"),
        (["--copies", 2], "Structure 3 (Si2): ase.calculators.emt:EMT failed (NotImplementedError"),
        (
            ["--copies", 2, "--frames", 1, "--interval", 1],
            "Structure 3 (Si2): molecular dynamics failed (NotImplemented",
        ),
    ],
)
def test_a_calculator_that_fails_names_the_structure_of_the_file(
    flags: list[object], says: str, cli: Run, tmp_path: Path
) -> None:
    """Whatever comes of it: copies, frames of dynamics."""
    data = write(tmp_path / "data.extxyz", [bulk("Cu"), bulk("Cu"), bulk("Al"), bulk("Si"), bulk("Cu")])
    ran = cli("label", "ase.calculators.emt:EMT", data, "-o", tmp_path / "out.extxyz", *flags)
    assert ran.code == 2
    assert says in ran.err
