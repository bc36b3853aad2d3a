"""What stock MACE tools do with each kind of pruned model: how they are run, and one table of what is expected.

The page is made from the table: ``python tests/adapters/mace/support.py > docs/mace-tools.md``. Nothing here imports
equiprune, because the same file runs the tools, in processes that never heard of it:

    python support.py open TOOL STRUCTURES MODELS    energies, forces and stresses, as JSON
    python support.py run COMMANDS                   exit codes of commands, as JSON
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
    import mace.cli.convert_e3nn_cueq

    return by_module(mace.cli.convert_e3nn_cueq.run(path), structures, **options)


def by_converting_back(path: str, structures: list, **options: Any) -> list:
    import mace.cli.convert_cueq_e3nn
    import mace.cli.convert_e3nn_cueq

    converted = mace.cli.convert_e3nn_cueq.run(path)
    return by_module(mace.cli.convert_cueq_e3nn.run(converted), structures, **options)


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
    """Of a tool that is given a file."""

    OPENS = "opens"
    REFUSES = "refuses"


@dataclass(frozen=True)
class Tool:
    """A way to use a file.

    Attributes:
        name: in the page.
        opened: how it is tested; of a command, what is done with what it writes.
        shown: what a user types. For a command this is run, with other paths.
        writes: what the command writes.
        rebuilds: it builds a new model from hyperparameters and copies weights into it.
        needs: a package besides mace-torch.
        precision: largest difference in eV, eV/Angstrom and eV/Angstrom^3.
    """

    name: str
    opened: Callable[..., list]
    shown: str
    writes: str = ""
    rebuilds: bool = False
    needs: str = ""
    precision: float = 1e-9


@dataclass(frozen=True)
class Kind:
    """A kind of pruned model.

    Attributes:
        name: in the page.
        made: what was cut, by which flags.
        assembled: upstream's constructor cannot build it.
        refusals: in what a tool that rebuilds says, one of these; nothing where it can.
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


_TRAIN = """\
mace_run_train --name tuned --foundation_model {model} --multiheads_finetuning False \\
    --train_file train.xyz --valid_file valid.xyz --E0s foundation --default_dtype float64"""

CALCULATOR = Tool(
    "`MACECalculator`, float64",
    by_calculator,
    'MACECalculator(model_paths="{model}", device="cpu", default_dtype="float64")',
)
FLOAT32 = Tool(
    "`MACECalculator`, float32",
    by_float32_calculator,
    'MACECalculator(model_paths="{model}", device="cpu", default_dtype="float32")',
    precision=1e-4,
)
LAMMPS = Tool(
    "`mace_create_lammps_model`",
    by_torchscript,
    "mace_create_lammps_model {model}",
    writes="{model}-lammps.pt",
)
TRAIN = Tool("`mace_run_train`", by_calculator, _TRAIN, writes="tuned.model", rebuilds=True)
REBUILD = Tool("rebuilding in Python", by_rebuilding, "", rebuilds=True)
CUEQ = Tool(
    "`MACECalculator`, cuEquivariance",
    by_cueq_calculator,
    'MACECalculator(model_paths="{model}", device="cuda", enable_cueq=True)',
    rebuilds=True,
    needs="cuequivariance-torch",
)
CONVERT = Tool("`mace_e3nn_cueq`", by_converting, "", rebuilds=True, needs="cuequivariance-torch")
BACK = Tool("... and `mace_cueq_to_e3nn`", by_converting_back, "", rebuilds=True, needs="cuequivariance-torch")
MLIAP = Tool(
    "`mace_create_lammps_model`, ML-IAP",
    by_mliap,
    "mace_create_lammps_model {model} --format mliap",
    writes="{model}-mliap_lammps.pt",
    rebuilds=True,
    needs="cuequivariance-torch",
)
TORCH_SIM = Tool("torch-sim `MaceModel`", by_torch_sim, "", needs="torch-sim-atomistic")
TOOLS = (CALCULATOR, FLOAT32, LAMMPS, TRAIN, REBUILD, CUEQ, CONVERT, BACK, MLIAP, TORCH_SIM)

UNIFORM = Kind("uniform", "`--channels`, `--lmax`, `--elements`, `--correlation`, `--radial-width`, `--radial-basis`")
OFFICIAL = Kind("official", "MACE-MP-0 small, `--channels 32`")
EDGE_IRREPS = Kind("edge irreps", "")
DEPTH = Kind("depth", "`--interactions 1`")
HEADS = Kind("heads", "")
ORDERS = Kind("orders", "`--correlation 3,2`", refusals=("XX",))
HETEROGENEOUS = Kind("heterogeneous", "", assembled=True, refusals=("assembled by equiprune",))
DEPTH_NONLINEAR = Kind("depth, non-linear readout", "", assembled=True, refusals=("must be str, not Irrep",))
KINDS = (UNIFORM, OFFICIAL, EDGE_IRREPS, DEPTH, HEADS, ORDERS, HETEROGENEOUS, DEPTH_NONLINEAR)

TABLE = tuple(
    Expectation(tool, kind, Outcome.REFUSES if tool.rebuilds and kind.refusals else Outcome.OPENS, tool.needs)
    for tool in TOOLS
    for kind in KINDS
)


# Processes.


def open_models(number: str, structures: str, models: str) -> dict:
    """What a tool says of each of the models, (name, path, options), or the text of its error."""
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # as importing mace.calculators does
    import ase.io
    import torch

    torch.set_num_threads(1)
    said: dict = {}
    for name, path, options in json.loads(models):
        try:
            said[name] = TOOLS[int(number)].opened(path, ase.io.read(structures, ":"), **options)
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def run_commands(commands: str) -> dict:
    """Exit codes of commands, (name, folder, words), each in a fork of this process: importing mace takes long."""
    codes = {}
    for name, folder, words in json.loads(commands):
        [command] = entry_points(group="console_scripts", name=words[0])
        main = command.load()
        child = os.fork()
        if child == 0:
            os._exit(_in(folder, main, words))
        codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return codes


def _in(folder: str, main: Callable[[], Any], words: list[str]) -> int:
    """Exit code of a command that is run in a folder and writes what it says to a file there."""
    os.chdir(folder)
    with open("log", "w") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
        sys.argv = words
        try:
            main()
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["open", *arguments]:
            print("\n" + json.dumps(open_models(*arguments)))
        case ["run", *arguments]:
            print("\n" + json.dumps(run_commands(*arguments)))
        case _:
            print(page(), end="")
    assert not [name for name in sys.modules if name.startswith("equiprune")]
