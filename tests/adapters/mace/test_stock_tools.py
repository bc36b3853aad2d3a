"""What stock MACE tools do with pruned models, in processes that never heard of equiprune.

`support.TABLE` says what is expected, and the page docs/mace-tools.md is made from it. A tool that opens a file must
give the energies, forces and stresses of the model in memory; one that refuses must fail and give no numbers.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, final

import ase.io
import numpy as np
import pytest
import support
import torch
from random_mace import KINDS, random_checkpoint, stock
from support import TABLE, Expectation, Kind, Outcome, Tool

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.blocks import BlockMask
from equiprune.pruning.targets import Target

pytestmark = pytest.mark.usefixtures("plain_code")  # in this process; files and tools have stock code

KEPT = (8, 14, 29)
STRUCTURES = (14, 29)
"""Elements of the structures; mace_run_train drops oxygen, which its training data lack."""
PAGE = Path(__file__).parents[3] / "docs" / "mace-tools.md"

Said = Mapping[str, Any]
"""By model: energy, forces and stress of each structure, or the text of an error."""


PARENTS = {
    "L2": stock(lmax=2),
    "L1": stock(6, correlation=2),
    "L0": stock(lmax=0, max_ell=1),
    "heads": KINDS["density, ZBL, Agnesi, two heads, max_ell 3"],
}


@cache
def parent(name: str) -> ep.Potential:
    arch = PARENTS[name]
    head = arch.heads[1] if arch.heads else None
    return ep.Potential.create(MaceAdapter(), random_checkpoint(arch), torch.float64, head)


def pruned(whole: ep.Potential, *targets: Target, heterogeneous: bool = False) -> ep.Potential:
    """Three elements, and what the targets leave, by random scores."""
    scores = ep.data_free_scores(whole, ep.Random(0))
    return ep.prune(whole, ep.allocate(whole, [ep.Elements(KEPT), *targets], scores, heterogeneous=heterogeneous))


def uniform(lmax: int) -> ep.Potential:
    """Everything is cut for which upstream's constructor has a word."""
    narrower = [ep.Channels(3), ep.RadialWidth((6, 5)), ep.RadialBasis(4)]
    return pruned(parent("L2"), *narrower, ep.Lmax(lmax), ep.Correlation(2))


def other_edge_irreps() -> ep.Potential:
    """5x0e+4x1o enter the second convolution; hidden features are 6x0e+6x1o."""
    [space] = [space for space in parent("L1").spaces if space.name == "edge_irreps.1"]
    kept = {ir: range(1, mul - ir.l) for mul, ir in space.irreps}
    return pruned(parent("L1"), ep.FromPlan(ep.PruningPlan({space.name: BlockMask.keep(space.irreps, kept)})))


def alike_in_the_middle() -> ep.Potential:
    """The hidden irreps that tools look at are uniform; embedding, last features and radial networks are not."""
    irreps, widths = ep.HiddenIrreps.parse("5x0e,6x0e+6x1o,5x0e"), ep.RadialWidth((8, 6, 8, 7))
    return pruned(parent("L1"), irreps, widths, heterogeneous=True)


def different_everywhere() -> ep.Potential:
    irreps = ep.HiddenIrreps.parse("5x0e,4x0e+3x1o,6x0e")
    return pruned(parent("L1"), irreps, ep.BasisLmax((2, 1)), heterogeneous=True)


def shallow() -> ep.Potential:
    return pruned(parent("L1"), ep.Interactions(1))


MODELS: Mapping[str, tuple[Kind, Callable[[], ep.Potential]]] = {
    "L = 1": (support.UNIFORM, lambda: uniform(1)),
    "L = 0": (support.UNIFORM, lambda: uniform(0)),
    "L = 2": (support.UNIFORM, lambda: uniform(2)),
    "edge irreps": (support.EDGES, other_edge_irreps),
    "depth": (support.DEPTH, shallow),
    "two heads": (support.HEADS, lambda: pruned(parent("heads"), ep.Channels(3))),
    "orders": (support.ORDERS, lambda: pruned(parent("L0"), ep.Correlation((3, 2)), heterogeneous=True)),
    "alike in the middle": (support.HETEROGENEOUS, alike_in_the_middle),
    "different everywhere": (support.HETEROGENEOUS, different_everywhere),
    "depth, readout": (support.READOUT, lambda: ep.grow(shallow(), ep.NonlinearReadout(6))),
}
OFFICIAL = "MACE-MP-0 small"
"""A model that is at hand only where the official file is."""

THOROUGH = (support.CALCULATOR,)
"""Tools that are asked about every model; the others, to save time, about the first of each kind."""


@dataclass(frozen=True)
class Exported:
    """A pruned model in memory, and the file that holds it."""

    kind: Kind
    potential: ep.Potential
    path: Path


@pytest.fixture(scope="module")
def kinds(mace_mp_small: Path | None) -> Mapping[str, Kind]:
    """Those of the models; the official one's where it is at hand."""
    official = {OFFICIAL: support.OFFICIAL} if mace_mp_small is not None else {}
    return {**{name: kind for name, (kind, _) in MODELS.items()}, **official}


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, kinds: Mapping[str, Kind], mace_mp_small: Path | None
) -> Callable[[str], Exported]:
    """A model, made and written once."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def export(name: str) -> Exported:
        potential = _official(mace_mp_small) if name == OFFICIAL and mace_mp_small else MODELS[name][1]()
        return Exported(kinds[name], potential, ep.save(potential, folder / f"{list(kinds).index(name)}.model")[0])

    return export


def _official(path: Path) -> ep.Potential:
    whole = ep.load(path, dtype=torch.float64)
    return ep.prune(whole, ep.allocate(whole, [ep.Channels(32)], ep.data_free_scores(whole, ep.Magnitude())))


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crystals and a molecule of Si and Cu in periodic cells, as a file."""
    path = tmp_path_factory.mktemp("structures") / "probes.extxyz"
    ase.io.write(path, list(ep.probe_structures(STRUCTURES).values()))
    return path


# Processes that never heard of equiprune.

Ask = Callable[..., dict[str, Any]]
"""The answer of a process of `support.serve` to a question."""


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Ask a new interpreter, which imports mace once."""
    folder = tmp_path_factory.mktemp("asked")
    command = [sys.executable, "-W", "ignore", support.__file__, "serve"]
    with (
        (folder / "stderr").open("w") as stderr,
        subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        questions, codes = process.stdin, process.stdout

        def ask(*words: Any) -> dict[str, Any]:
            answer = folder / "answer"
            answer.unlink(missing_ok=True)
            questions.write(json.dumps([str(answer), *words]) + "\n")
            questions.flush()
            code = codes.readline()
            assert code == "0\n", (folder / "stderr").read_text()[-3000:]
            said: dict[str, Any] = json.loads(answer.read_text())
            return said

        yield ask


def opened(ask: Ask, tool: Tool, structures: Path, models: Mapping[str, tuple[Path, str | None]]) -> Said:
    """What a tool says of files, each with the head to evaluate."""
    listed = [(name, str(path), {"head": head} if head else {}) for name, (path, head) in models.items()]
    return ask("open", support.TOOLS.index(tool), str(structures), listed)


@dataclass(frozen=True)
class Ran:
    """Where a command ran for one model, what it wrote, and whether it failed."""

    folder: Path
    written: Path
    failed: bool

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


def commanded(
    ask: Ask, tool: Tool, folder: Path, models: Mapping[str, Exported], inputs: Path | None, more: Mapping[str, str]
) -> Mapping[str, Ran]:
    """Run a command for each model with more arguments, in a folder of its own that holds copies of the inputs."""
    commands = {}
    for number, (name, model) in enumerate(models.items()):
        own = folder / str(number)
        shutil.copytree(inputs, own) if inputs is not None else own.mkdir(parents=True)
        head = [tool.head_flag, model.potential.head] if model.potential.head else []
        commands[name] = (own, [*tool.words(str(model.path)), *head, *more.get(name, "").split()])
    codes = ask("run", [(name, str(own), words) for name, (own, words) in commands.items()])
    written = {name: tool.writes.replace("{model}", str(model.path)) for name, model in models.items()}
    return {name: Ran(own, own / written[name], codes[name] != 0) for name, (own, _) in commands.items()}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small labelled cells of Cu and Si, to train on and to validate on."""
    data, folder = os.environ.get("EQUIPRUNE_DATA"), tmp_path_factory.mktemp("labelled")
    if data is None:
        pytest.skip("needs reference data in the folder named by the environment variable EQUIPRUNE_DATA")
    cells = {z: ep.read_structures(f"{data}/mlearn/{z}_test.extxyz.xz") for z in ("Cu", "Si")}
    small = {z: [atoms for atoms in found if len(atoms) <= 36][:2] for z, found in cells.items()}
    for number, name in enumerate(("train.xyz", "valid.xyz")):
        frames = [found[number] for found in small.values()]
        for atoms in frames:
            atoms.info["REF_energy"], atoms.arrays["REF_forces"] = atoms.get_potential_energy(), atoms.get_forces()
            atoms.calc = None
        ase.io.write(folder / name, frames, format="extxyz")
    return folder


_SHORT = "--batch_size 2 --valid_batch_size 2 --max_num_epochs 1 --device cpu --seed 1 --plot False"
LEARNING = "L = 1, learning"
"""The model L = 1 once more, with a learning rate above zero."""


@pytest.fixture(scope="module")
def tried(exported: Callable[[str], Exported], kinds: Mapping[str, Kind]) -> Callable[[Tool], Mapping[str, Exported]]:
    """The models that a tool is asked about."""

    @cache
    def choose(tool: Tool) -> Mapping[str, Exported]:
        possible = [expected.kind for expected in TABLE if expected.tool is tool]
        names = {name: kind for name, kind in kinds.items() if kind in possible}
        first = {kind: name for name, kind in reversed(names.items())}
        return {name: exported(name) for name in (names if tool in THOROUGH else first.values())}

    return choose


@pytest.fixture(scope="module")
def ran(
    ask: Ask,
    exported: Callable[[str], Exported],
    tried: Callable[[Tool], Mapping[str, Exported]],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Tool], Mapping[str, Ran]]:
    """What a command did with each model; fine-tuning with learning rate zero."""

    @cache
    def run(tool: Tool) -> Mapping[str, Ran]:
        folder, models = tmp_path_factory.mktemp("ran") / "folders", tried(tool)
        if tool is not support.TRAIN:
            return commanded(ask, tool, folder, models, None, {})
        more = {**dict.fromkeys(models, f"{_SHORT} --lr 0.0"), LEARNING: f"{_SHORT} --lr 0.01"}
        models = {**models, LEARNING: exported("L = 1")}
        return commanded(ask, tool, folder, models, request.getfixturevalue("labelled"), more)

    return run


@pytest.fixture(scope="module")
def said(
    ask: Ask,
    tried: Callable[[Tool], Mapping[str, Exported]],
    ran: Callable[[Tool], Mapping[str, Ran]],
    structures: Path,
) -> Callable[[Tool], Said]:
    """What a tool says of each model, asked once for all of them."""

    @cache
    def say(tool: Tool) -> Said:
        if not tool.writes:
            models = tried(tool)
            return opened(
                ask, tool, structures, {name: (model.path, model.potential.head) for name, model in models.items()}
            )
        runs = ran(tool)  # what commands write has one head
        written = {name: (run.written, None) for name, run in runs.items() if not run.failed}
        return {**opened(ask, tool, structures, written), **{name: run.log for name, run in runs.items() if run.failed}}

    return say


# The table.


def truth(model: Exported, structures: Path, head: str | None) -> list:
    """Energy, forces and stress of the model in memory."""
    potential = model.potential
    if head != potential.head:
        potential = ep.Potential.create(potential.adapter, potential.checkpoint, torch.float64, head)
    return [(p.energy, p.forces, p.stress) for p in potential.predict(ase.io.read(structures, ":"))]


class Row:
    """Tests of one tool with each kind of model; a class per tool, all of which one worker does."""

    tool: ClassVar[Tool]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "expected" in metafunc.fixturenames:
            row = [expected for expected in TABLE if expected.tool is self.tool]
            metafunc.parametrize("expected", row, ids=[expected.kind.name for expected in row])

    def test_stock_tool(
        self,
        expected: Expectation,
        tried: Callable[[Tool], Mapping[str, Exported]],
        said: Callable[[Tool], Said],
        structures: Path,
    ) -> None:
        _skip_without(expected.needs)
        models = {name: model for name, model in tried(expected.tool).items() if model.kind is expected.kind}
        if not models:
            pytest.skip("needs MACE-MP-0 small in 'checkpoints' beside the folder that EQUIPRUNE_DATA names")
        for name, model in models.items():
            answer = said(expected.tool)[name]
            if expected.outcome is Outcome.REFUSES:
                assert isinstance(answer, str), f"{name}: numbers instead of an error"
                assert any(reason in answer for reason in expected.kind.refusals), answer[-3000:]
            else:
                assert not isinstance(answer, str), f"{name}: {answer[-3000:]}"
                heads = model.potential.architecture.heads
                head = heads[0] if expected.outcome is Outcome.FIRST_HEAD else model.potential.head
                _assert_same(answer, truth(model, structures, head), expected.tool.precision, name)


def _assert_same(answer: list, right: list, precision: float, name: str) -> None:
    """The answer, which may hold the structures several times, is right."""
    assert max(forces.abs().max() for _, forces, _ in right) > 1e-3  # or agreement would mean nothing
    for theirs, ours in zip(answer, right * (len(answer) // len(right)), strict=True):
        for their, our in zip(theirs, ours, strict=True):
            np.testing.assert_allclose(their, our.numpy(), rtol=0, atol=precision, err_msg=name)


def _skip_without(package: str) -> None:
    try:
        version(package or "equiprune")
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed here; the nox session mace installs it")


@pytest.mark.supports("MACE of several heads (random weights)", "stock tool")
@pytest.mark.supports("MACE-MP-0 (the official small file)", "stock tool")
@final
class TestCalculator(Row):
    tool = support.CALCULATOR


@final
class TestFloat32(Row):
    tool = support.FLOAT32


@final
class TestLammps(Row):
    tool = support.LAMMPS


@final
class TestTorchSim(Row):
    tool = support.TORCH_SIM


@final
class TestRebuild(Row):
    tool = support.REBUILD


@final
class TestCuEquivariance(Row):
    tool = support.CUEQ


@final
class TestConvert(Row):
    tool = support.CONVERT


@final
class TestMliap(Row):
    tool = support.MLIAP


@final
class TestTrain(Row):
    tool = support.TRAIN

    def test_fine_tuning_starts_from_the_pruned_model(
        self, exported: Callable[[str], Exported], ran: Callable[[Tool], Mapping[str, Ran]], labelled: Path
    ) -> None:
        """Before its first step ``mace_run_train`` measures the errors that equiprune measures."""
        frames = list(ep.read_structures(labelled / "valid.xyz"))
        runs = {name: run for name, run in ran(self.tool).items() if not run.failed and name != LEARNING}
        models = {name: exported(name) for name in runs}
        kinds = {model.kind for model in models.values()}
        assert kinds >= {support.UNIFORM, support.EDGES, support.DEPTH, support.HEADS}
        for name, run in runs.items():
            [log] = run.folder.glob("results/*_train.txt")
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            [first] = [line for line in lines if line["mode"] == "eval" and line["epoch"] is None]
            [ours] = ep.evaluate({name: models[name].potential}, frames)
            found = [first[f"{measure}_{of}"] for measure in ("mae", "rmse") for of in ("e_per_atom", "f")]
            expected = [getattr(ours, measure)(of) / 1e3 for measure in ("mae", "rmse") for of in ("energy", "forces")]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=name)

    @pytest.mark.usefixtures("labelled")
    def test_fine_tuning_changes_the_model(self, said: Callable[[Tool], Said]) -> None:
        """With a learning rate above zero; or equality at zero would mean nothing."""
        still, learning = (said(self.tool)[name] for name in ("L = 1", LEARNING))
        assert all(abs(before[0] - after[0]) > 1e-3 for before, after in zip(still, learning, strict=True))


def test_every_row_is_tested() -> None:
    assert {row.tool for row in Row.__subclasses__()} == set(support.TOOLS)


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == support.page()
