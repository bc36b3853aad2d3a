"""What stock MACE tools do with each kind of pruned model: how they are run, and one table of what is expected.

    python tests/adapters/mace/support.py > docs/mace-tools.md

makes the page from the table. `serve` is for a new process (``serve``) that never heard of equiprune, so nothing here
imports it.
"""

import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import entry_points
from typing import Any

# How a tool opens a file: the functions return energy, forces and stress of each structure.


def calculated(calculator: Any, structures: list) -> list:
    """By an ASE calculator."""
    said = []
    for atoms in structures:
        atoms.calc = calculator
        said.append([atoms.get_potential_energy(), atoms.get_forces().tolist(), atoms.get_stress(voigt=False).tolist()])
    return said


def by_calculator(path: str, structures: list, **options: Any) -> list:
    from mace.calculators import MACECalculator

    options = {"default_dtype": "float64", **options}
    return calculated(MACECalculator(model_paths=path, device="cpu", **options), structures)


def by_float32_calculator(path: str, structures: list, **options: Any) -> list:
    return by_calculator(path, structures, default_dtype="float32", **options)


def by_cueq_calculator(path: str, structures: list, **options: Any) -> list:
    return by_calculator(path, structures, enable_cueq=True, **options)


def by_module(module: Any, structures: list, **options: Any) -> list:
    from mace.calculators import MACECalculator

    return calculated(MACECalculator(models=[module], device="cpu", default_dtype="float64", **options), structures)


def by_rebuilding(path: str, structures: list, **options: Any) -> list:
    import torch
    from mace.tools.scripts_utils import extract_config_mace_model

    torch.set_default_dtype(torch.float64)
    module = torch.load(path)
    rebuilt = type(module)(**extract_config_mace_model(module))
    rebuilt.load_state_dict(module.state_dict())
    return by_module(rebuilt, structures, **options)


def by_converting(path: str, structures: list, **options: Any) -> list:
    """By the converted model, then by the one converted back."""
    from mace.cli import convert_cueq_e3nn, convert_e3nn_cueq

    converted = convert_e3nn_cueq.run(path)
    back = convert_cueq_e3nn.run(converted)
    return by_module(converted, structures, **options) + by_module(back, structures, **options)


def by_torch_sim(path: str, structures: list, **options: Any) -> list:
    import torch
    import torch_sim
    from torch_sim.models.mace import MaceModel

    cpu, double = torch.device("cpu"), torch.float64
    model = MaceModel(torch.load(path), device=cpu, dtype=double)
    said = []
    for atoms in structures:
        result = model(torch_sim.io.atoms_to_state([atoms], device=cpu, dtype=double))
        said.append([result["energy"].item(), result["forces"].tolist(), result["stress"][0].tolist()])
    return said


def by_torchscript(path: str, structures: list, **options: Any) -> list:
    """What the LAMMPS pair style computes from a deployed file, here with every atom local."""
    import torch

    torch.set_default_dtype(torch.float64)
    model = torch.jit.load(path)
    names = ("positions", "node_attrs", "edge_index", "shifts", "unit_shifts", "cell", "batch", "ptr")
    said = []
    for atoms in structures:
        graph = _graph(model, atoms)
        with torch.jit.optimized_execution(False):  # optimising takes longer than evaluating
            result = model({name: graph[name] for name in names}, torch.ones(len(atoms)), True)
        stress = -result["virials"][0] / atoms.cell.volume
        said.append([result["total_energy_local"].item(), result["forces"].tolist(), stress.tolist()])
    return said


def _graph(model: Any, atoms: Any) -> dict:
    from mace import data
    from mace.tools import torch_geometric, utils

    table = utils.AtomicNumberTable(model.atomic_numbers.tolist())
    graph = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=float(model.r_max))
    return next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1))).to_dict()


def by_mliap(path: str, structures: list, **options: Any) -> list:
    import torch

    potential = torch.load(path)
    elements, cutoff = potential.model.atomic_numbers.tolist(), float(potential.model.r_max)
    said = []
    for atoms in structures:
        lammps = PretendLammps(atoms, cutoff, elements)
        potential.compute_forces(lammps)
        stress = lammps.rij.T @ lammps.pair_forces / atoms.cell.volume
        said.append([float(lammps.energy), lammps.forces().tolist(), stress.tolist()])
    return said


class PretendLammps:
    """What LAMMPS hands to a unified ML-IAP potential. Neighbours in other cells are ghost atoms.

    A ghost has the features of the atom it is an image of, and gives that atom its gradients.
    """

    def __init__(self, atoms: Any, cutoff: float, elements: list) -> None:
        import numpy as np
        import torch
        from ase.neighborlist import neighbor_list

        centres, neighbours, vectors, cells = neighbor_list("ijDS", atoms, cutoff)
        owners, ghosts, ends = list(range(len(atoms))), {}, []
        for atom, cell in zip(neighbours, map(tuple, cells), strict=True):
            if any(cell) and (atom, cell) not in ghosts:
                ghosts[atom, cell] = len(owners)
                owners.append(atom)
            ends.append(ghosts.get((atom, cell), atom))
        self.pair_i, self.pair_j, self.rij = centres, np.array(ends), vectors
        self.nlocal, self.ntotal, self.npairs = len(atoms), len(owners), len(ends)
        self.elems = np.array([elements.index(z) for z in atoms.numbers[owners]])
        self.eatoms, self.energy, self.owners = np.zeros(len(atoms)), None, torch.tensor(owners)

    def forward_exchange(self, features: Any, out: Any, _: int) -> None:
        out.copy_(features[self.owners])

    def reverse_exchange(self, gradients: Any, out: Any, _: int) -> None:
        out.zero_()
        out.index_add_(0, self.owners, gradients)
        out[self.nlocal :] = 0

    def update_pair_forces_gpu(self, forces: Any) -> None:
        self.pair_forces = forces.detach().numpy()

    def forces(self) -> Any:
        import numpy as np

        forces = np.zeros((self.nlocal, 3))
        np.add.at(forces, self.pair_i, self.pair_forces)
        np.add.at(forces, self.owners.numpy()[self.pair_j], -self.pair_forces)
        return forces


# What is expected.


class Outcome(Enum):
    """Of a tool that is given a file; the values are the cells of the page."""

    OPENS = "yes"
    REFUSES = "refuses"
    FIRST_HEAD = "first head"


@dataclass(frozen=True)
class Tool:
    """A way to use a file.

    Attributes:
        name: in the page.
        opened: how it is tested; of a command, what is done with the file it writes.
        shown: what a user types. A command is run as it stands here.
        writes: the file that a command writes.
        head_flag: how a command is told which of several heads.
        rebuilds: it builds a new model from hyperparameters and copies weights into it.
        needs: a package besides mace-torch.
        precision: largest difference in eV, eV/Angstrom and eV/Angstrom^3.
    """

    name: str
    opened: Callable[..., list]
    shown: str
    writes: str = ""
    head_flag: str = ""
    rebuilds: bool = False
    needs: str = ""
    precision: float = 1e-9

    def words(self, model: str) -> list[str]:
        """The command line."""
        return shlex.split(self.shown.replace("\\\n", " ").replace("{model}", model))


@dataclass(frozen=True)
class Kind:
    """A kind of pruned model.

    Attributes:
        name: in the page.
        made: what was cut, and by which flags.
        assembled: upstream's constructor cannot build it.
        refusals: tools that rebuild a model say one of these; none where they can.
    """

    name: str
    made: str
    assembled: bool = False
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expectation:
    """One cell of the table."""

    tool: Tool
    kind: Kind
    outcome: Outcome
    needs: str

    def __str__(self) -> str:
        return f"{self.tool.name}: {self.kind.name}"


_CUEQ = "cuequivariance-torch"

CALCULATOR = Tool(
    "`MACECalculator`",
    by_calculator,
    'MACECalculator(model_paths="{model}", device="cpu", default_dtype="float64")',
)
FLOAT32 = Tool(
    "`MACECalculator` in float32",
    by_float32_calculator,
    'MACECalculator(model_paths="{model}", device="cpu", default_dtype="float32")',
    precision=1e-4,
)
LAMMPS = Tool(
    "`mace_create_lammps_model`",
    by_torchscript,
    "mace_create_lammps_model {model}",
    writes="{model}-lammps.pt",
    head_flag="--head",
)
TORCH_SIM = Tool(
    "torch-sim's `MaceModel`",
    by_torch_sim,
    'MaceModel(torch.load("{model}", weights_only=False), device=torch.device("cpu"), dtype=torch.float64)',
    needs="torch-sim-atomistic",
)
TRAIN = Tool(
    "`mace_run_train`",
    by_calculator,
    """\
mace_run_train --name tuned --foundation_model {model} --multiheads_finetuning False \\
    --train_file train.xyz --valid_file valid.xyz --E0s foundation --default_dtype float64""",
    writes="tuned.model",
    head_flag="--foundation_head",
    rebuilds=True,
)
REBUILD = Tool(
    "`extract_config_mace_model`",
    by_rebuilding,
    """\
module = torch.load("{model}", weights_only=False)
rebuilt = type(module)(**extract_config_mace_model(module))
rebuilt.load_state_dict(module.state_dict())""",
    rebuilds=True,
)
CUEQ = Tool(
    "`MACECalculator` with cuEquivariance",
    by_cueq_calculator,
    'MACECalculator(model_paths="{model}", device="cuda", default_dtype="float64", enable_cueq=True)',
    rebuilds=True,
    needs=_CUEQ,
)
CONVERT = Tool(
    "`convert_e3nn_cueq` and back",
    by_converting,
    """\
converted = mace.cli.convert_e3nn_cueq.run("{model}")
back = mace.cli.convert_cueq_e3nn.run(converted)""",
    rebuilds=True,
    needs=_CUEQ,
)
MLIAP = Tool(
    "`mace_create_lammps_model`, ML-IAP",
    by_mliap,
    "mace_create_lammps_model {model} --format mliap",
    writes="{model}-mliap_lammps.pt",
    head_flag="--head",
    rebuilds=True,
    needs=_CUEQ,
)
TOOLS = (CALCULATOR, FLOAT32, LAMMPS, TORCH_SIM, TRAIN, REBUILD, CUEQ, CONVERT, MLIAP)

_TEXT = "assembled by equiprune"
UNIFORM = Kind(
    "uniform",
    "fewer channels, lower l, fewer elements, lower correlation, narrower radial networks, fewer radial functions",
)
OFFICIAL = Kind("MACE-MP-0", "the official small model, `--channels 32`")
EDGES = Kind(
    "edge irreps", "by a `--plan`: only the features that enter the later convolutions have other numbers of channels"
)
DEPTH = Kind("depth", "`--interactions 1`")
HEADS = Kind("heads", "uniform, several heads are left")
ORDERS = Kind("orders", "`--heterogeneous --correlation 3,2`", assembled=True, refusals=(_TEXT,))
HETEROGENEOUS = Kind(
    "heterogeneous",
    "`--heterogeneous`: other numbers of channels, l or radial neurons in each interaction",
    assembled=True,
    refusals=(_TEXT, "Input/Output irreps must have the same mul"),
)
READOUT = Kind(
    "depth, readout",
    "`--interactions 1 --nonlinear-readout 16`",
    assembled=True,
    refusals=("must be str, not Irrep",),
)
KINDS = (UNIFORM, OFFICIAL, EDGES, DEPTH, HEADS, ORDERS, HETEROGENEOUS, READOUT)

NOT_TESTED = {(CONVERT, OFFICIAL), (MLIAP, OFFICIAL)}
"""Without its kernels, cuEquivariance takes 10 s to set up correlation 3."""


def _outcome(tool: Tool, kind: Kind) -> Outcome:
    if tool is TORCH_SIM and kind is HEADS:
        return Outcome.FIRST_HEAD
    return Outcome.REFUSES if tool.rebuilds and kind.refusals else Outcome.OPENS


TABLE = tuple(
    Expectation(tool, kind, _outcome(tool, kind), tool.needs)
    for tool in TOOLS
    for kind in KINDS
    if (tool, kind) not in NOT_TESTED
)


# The page.

_PAGE = """\
# Pruned MACE models in stock tools

equiprune writes a MACE model as a `.model` file: a pickled module of mace-torch's own classes, as `mace_run_train`
writes it. Tools that load and call the module open every pruned model. Tools that build a new module from its
hyperparameters and copy the weights need numbers that mace-torch has a hyperparameter for, and refuse the others.

{table}

- yes: in a new process without equiprune, the tool gives the energies (eV), forces (eV/Angstrom) and stresses
  (eV/Angstrom^3) of the model that equiprune had in memory, to 1e-9, in float32 to 1e-4.
- refuses: it stops with an error and gives no numbers.
- first head: the tool cannot be told which head; it evaluates the first one.
- not tested: it would take long on a CPU.

Every cell is a test in `tests/adapters/mace/test_stock_tools.py`, on random models with 3 to 6 channels, in one column
on the official small model. `mace_run_train` trains on DFT frames of Cu and Si: the errors it prints before its first
step are those of `equiprune evaluate` to 1e-6 eV, and with learning rate zero the model it writes is the pruned one.

Tested with mace-torch 0.3.16, e3nn 0.4.4, torch 2.13, cuequivariance-torch 0.13.0 and torch-sim-atomistic 0.3.0, all in
one environment, on a CPU and therefore without cuEquivariance's kernels. LAMMPS itself was not run: its libtorch files
were loaded with `torch.jit.load` and evaluated with every atom local, its ML-IAP files with ghost atoms made in Python.

## The kinds

{kinds}

Flags combine; one cut that makes a model [assembled](mace.md#stock-and-assembled-models) is enough. `equiprune prune`
and `equiprune info` say when a model is, and why.

An assembled model must not be rebuilt: mace-torch's conversion to cuEquivariance copies the weights whose shapes fit
and leaves the others random, without a warning. equiprune therefore writes a sentence in place of the hyperparameter
`edge_irreps`, at which nothing but the constructor looks. Whatever rebuilds the model then stops, with one of these:

{refusals}

If you need those tools, prune to the uniform kind.

## What to type

The paths are yours, the device too, and what a training needs besides. Commands are tested as they stand here.

{commands}

With several heads, name one: `MACECalculator(..., head="r2scan")`, `mace_create_lammps_model ... --head r2scan` (which
asks otherwise), `mace_run_train ... --foundation_head r2scan` (which otherwise takes the first one that is not called
`pt_head`). A model that `equiprune prune --heads` left with one head needs no name, in torch-sim too.

## Traps

- **The same mace everywhere.** A pickled module opens only where its classes are the same. Write, convert and load it
  with one release of mace-torch, and with e3nn 0.4.4.
- **Converted files need cuEquivariance** to be opened, and equiprune does not read them. Keep the `.model` that
  equiprune wrote. ML-IAP files need cuEquivariance when they are made, too: that conversion comes first.
- **`mace_e3nn_cueq` and `mace_cueq_to_e3nn` write a file only with `... --return_model`**, which means the opposite of
  its name.
- **Elements of the training data.** `mace_run_train` drops the others, unless it is given
  `mace_run_train ... --foundation_model_elements True`.
- **Activation constants.** Tools that rebuild compute e3nn's normalisation of the activations anew. Nothing changes
  where a file has e3nn's own constants (1.6792 for silu), as MACE-MP-0 does; equiprune keeps any other, they do not.
"""


def page() -> str:
    """docs/mace-tools.md."""
    cells = {(expected.tool, expected.kind): expected.outcome.value for expected in TABLE}
    table = [[tool.name, *(cells.get((tool, kind), "not tested") for kind in KINDS)] for tool in TOOLS]
    kinds = [[kind.name, kind.made, "yes" if kind.assembled else "no"] for kind in KINDS]
    refusals = [[kind.name, ", ".join(f"`{said}`" for said in kind.refusals)] for kind in KINDS if kind.refusals]
    commands = "\n\n".join(f"{tool.name}:\n\n```text\n{tool.shown}\n```" for tool in TOOLS)
    return _PAGE.format(
        table=_table(["", *(kind.name for kind in KINDS)], table),
        kinds=_table(["Kind", "What was cut", "Assembled?"], kinds),
        refusals=_table(["Kind", "Part of the error"], refusals),
        commands=commands.replace("{model}", "small.model"),
    )


def _table(title: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [title, ["---"] * len(title), *rows])


# Processes.


def serve() -> None:
    """Answer each line of stdin, a file for the answer and what is asked, by the exit code of who wrote the answer.

    That is a fork of this process, since importing mace takes long. What it says itself goes to stderr.
    """
    import mace.calculators  # noqa: F401
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        written, *asked = json.loads(line)
        print(_in_a_fork(lambda written=written, asked=asked: _answer(written, *asked)), flush=True)


def _answer(written: str, verb: str, *arguments: Any) -> None:
    os.dup2(2, 1)
    answer = {"open": open_models, "run": run_commands}[verb](*arguments)
    assert "equiprune" not in sys.modules
    with open(written, "w") as file:
        json.dump(answer, file)


def open_models(tool: int, structures: str, models: list) -> dict:
    """What a tool, given by its number, says of models (name, path, options): numbers, or the text of an error."""
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # as importing mace.calculators does
    import ase.io

    said: dict = {}
    for name, path, options in models:
        try:
            said[name] = TOOLS[tool].opened(path, ase.io.read(structures, ":"), **options)
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def run_commands(commands: list) -> dict:
    """Exit codes of commands (name, folder, words), each in a fork of its own."""
    codes = {}
    for name, folder, words in commands:
        [command] = entry_points(group="console_scripts", name=words[0])
        main = command.load()
        codes[name] = _in_a_fork(lambda main=main, folder=folder, words=words: _run(main, folder, words))
    return codes


def _in_a_fork(work: Callable[[], Any]) -> int:
    """Exit code of a copy of this process that does the work: what this returns, or 1 with an error's traceback."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(main: Callable[[], Any], folder: str, words: list[str]) -> None:
    """A command in a folder; what it says goes to ``log`` there."""
    os.chdir(folder)
    sys.argv = words
    with open("log", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    main()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        print(page(), end="")
