"""Outputs of Quantum ESPRESSO, FHI-aims, VASP and CP2K: labels in eV and Angstrom, and what is left of files cut off.

ASE takes constants of CODATA 2006 for pw.x, as pw.x does, and of CODATA 2014 for VASP; dpdata those of CODATA 2018.
"""

import gzip
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import texts_of_codes as texts
from ase import Atoms
from command_line import Run
from labelled_samples import assert_same

import equiprune as ep
from equiprune.errors import StructureError


@dataclass(frozen=True)
class Output:
    """A file of a code, and its ionic steps."""

    text: str
    steps: Callable[[], list[Atoms]]


OUTPUTS = {
    "pw.pwo": Output(texts.PW, texts.pw_steps),
    "pw.out": Output(texts.PW, texts.pw_steps),
    "OUTCAR": Output(texts.OUTCAR, texts.outcar_steps),
    "aims.out": Output(texts.AIMS_DYNAMICS, texts.aims_steps),
    "relaxation-aims.out": Output(texts.AIMS_RELAXATION, texts.aims_steps),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_labels_are_the_numbers_of_the_text_in_ev_and_angstrom(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(OUTPUTS[name].text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = list(ep.read_structures(tmp_path / name))
    assert_same(found, OUTPUTS[name].steps())
    assert all(atoms.get_stress()[0] < 0 for atoms in found), "the texts have pressure"


def rows(array: np.ndarray, names: Iterable[str]) -> str:
    """Lines of a name and all digits of a row."""
    return "".join(f"{name} {' '.join(map(repr, row))}\n" for name, row in zip(names, array.tolist(), strict=True))


def same_but_for_constants(ours: Atoms, theirs: Atoms, constants: float, stress: float) -> None:
    """Structure, forces and stress of two readers; ``stress`` is how far off that may be, in eV/Angstrom^3."""
    np.testing.assert_allclose(theirs.positions, ours.positions, rtol=constants, atol=1e-12)
    np.testing.assert_allclose(theirs.cell.array, ours.cell.array, rtol=constants, atol=1e-12)
    np.testing.assert_allclose(theirs.get_forces(), ours.get_forces(), rtol=constants)
    if "stress" in theirs.calc.results:
        np.testing.assert_allclose(theirs.get_stress(), ours.get_stress(), rtol=constants, atol=stress)


@pytest.mark.parametrize(("name", "format_there"), [("OUTCAR", "vasp/outcar"), ("aims.out", "fhi_aims/output")])
def test_outputs_are_what_dpdata_reads(name: str, format_there: str, tmp_path: Path) -> None:
    """Its energy of VASP is the free one. Its GPa is of 2018, 2e-8 from ASE's; of FHI-aims it reads no stress."""
    dpdata = pytest.importorskip("dpdata")
    (tmp_path / name).write_text(OUTPUTS[name].text)
    theirs = dpdata.LabeledSystem(str(tmp_path / name), fmt=format_there).to("ase/structure")
    for ours, other in zip(ep.read_structures(tmp_path / name), theirs, strict=True):
        same_but_for_constants(ours, other, constants=5e-8, stress=0)
        assert other.get_potential_energy() == pytest.approx(ours.calc.results["free_energy"], rel=1e-14)
        assert ("stress" in other.calc.results) == (name == "OUTCAR")


def test_an_output_of_pw_is_what_dpdata_reads(tmp_path: Path) -> None:
    """Rydberg and bohr of 2006 and 2018 differ by 1e-7; its stress is of the column in kbar, that has two digits."""
    dpdata = pytest.importorskip("dpdata")
    (tmp_path / "pw.out").write_text(texts.PW_START + texts.pw_labels(0) + texts.PW_END)
    [ours] = ep.read_structures(tmp_path / "pw.out")
    cell, places = (
        "\n".join(" ".join(map(repr, row)) for row in a.tolist()) for a in (ours.cell.array, ours.positions)
    )
    places = "O " + places.replace("\n", "\nH ")
    (tmp_path / "pw.in").write_text(
        f"&system\n  ibrav = 0\n/\nCELL_PARAMETERS angstrom\n{cell}\nATOMIC_POSITIONS angstrom\n{places}\n"
    )
    system = dpdata.LabeledSystem([str(tmp_path / "pw.in"), str(tmp_path / "pw.out")], fmt="qe/pw/scf")
    [theirs] = system.to("ase/structure")
    same_but_for_constants(ours, theirs, constants=2e-7, stress=0.0051 * 0.1 / 160.2)
    assert theirs.get_potential_energy() == pytest.approx(ours.get_potential_energy(), rel=2e-7)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_file_that_is_cut_off_has_whole_steps_or_is_refused(name: str, tmp_path: Path) -> None:
    """Only of an OUTCAR ASE leaves out half steps."""
    text, steps, path = OUTPUTS[name].text, OUTPUTS[name].steps(), tmp_path / name
    first_ends, last = len(text), len(text) - 20
    if name == "OUTCAR":
        first_ends, last = text.index("\n", text.index("energy(sigma->0)")) + 1, text.rindex("energy  without")
    for end in range(97, last, 97):
        path.write_text(text[:end])
        if end < first_ends:
            with pytest.raises(StructureError, match="or the file is cut off"):
                list(ep.read_structures(path))
        else:
            assert_same(ep.read_structures(path), steps[:1])


@pytest.mark.parametrize("name", ["OUTCAR", "pw.out"])
def test_a_compressed_output_is_looked_at_too(name: str, tmp_path: Path) -> None:
    path, whole = tmp_path / f"{name}.gz", OUTPUTS[name].text
    path.write_bytes(gzip.compress(whole.encode()))
    assert_same(ep.read_structures(path), OUTPUTS[name].steps())
    path.write_bytes(gzip.compress(whole[:1000].encode()))
    with pytest.raises(StructureError, match="or the file is cut off"):
        ep.open_structures(path)


def test_steps_of_pw_before_a_cut_are_read_as_the_message_says(tmp_path: Path) -> None:
    """ASE would give the second step its energy alone."""
    path = tmp_path / "pw.out"
    cut = texts.PW[: texts.PW.rindex("estimated scf accuracy")]
    path.write_text(cut)
    with pytest.raises(StructureError, match=r"ends before JOB DONE: .* 1 ionic steps are complete"):
        ep.open_structures(path)
    path.write_text(cut[: cut.rindex("ATOMIC_POSITIONS")] + "JOB DONE\n")
    assert_same(ep.read_structures(path), texts.pw_steps()[:1])


def test_runs_of_pw_one_after_another_are_each_whole(tmp_path: Path) -> None:
    path = tmp_path / "pw.out"
    path.write_text(2 * texts.PW)
    assert_same(ep.read_structures(path), 2 * texts.pw_steps())
    path.write_text(texts.PW[: texts.PW.rindex("Forces acting")] + texts.PW)
    with pytest.raises(StructureError, match=r"ends before JOB DONE: .* 1 ionic steps are complete"):
        ep.open_structures(path)


def test_an_output_of_pw_with_a_hybrid_functional_is_refused(tmp_path: Path) -> None:
    """ASE would take the first energy of a step, which is that before exact exchange."""
    path, other = tmp_path / "pw.out", "!!   total energy              =       -34.75000000 Ry\n"
    path.write_text(texts.PW.replace("     Forces acting", f"{other}\n     Forces acting", 1))
    with pytest.raises(StructureError, match="an ionic step has several total energies, as with a hybrid functional"):
        ep.open_structures(path)


@pytest.mark.parametrize(
    "after",
    [
        "  | Electronic free energy        :       -75.09000000 Ha     -2043.50000000 eV\n",
        "  | Electronic free energy per atom                       :     -1021.75000000 eV\n",
    ],
)
def test_an_output_of_aims_with_an_energy_in_other_units_last_is_refused(after: str, tmp_path: Path) -> None:
    """ASE would take the last number, whatever its unit."""
    path = tmp_path / "aims.out"
    path.write_text(texts.AIMS_DYNAMICS.replace(texts.AIMS_USED, after + texts.AIMS_USED, 1))
    with pytest.raises(StructureError, match="another one in Ha or per atom, which ASE would take for it"):
        ep.open_structures(path)


def test_an_outcar_that_ends_within_its_last_energy_is_refused(tmp_path: Path) -> None:
    """ASE would take the digits that are there for all of them."""
    path = tmp_path / "OUTCAR"
    cut = texts.OUTCAR[: texts.OUTCAR.rindex("energy(sigma->0) =") + len("energy(sigma->0) =       -10.5")]
    path.write_text(cut)
    with pytest.raises(StructureError, match="ends within the energy of its last ionic step"):
        ep.open_structures(path)
    path.write_text(cut[: cut.rindex("\n") + 1])
    assert_same(ep.read_structures(path), texts.outcar_steps()[:1])


@pytest.mark.parametrize("name", ["pw.out", "aims.out", "cp2k.out"])
def test_commands_refuse_by_one_message(name: str, refused: Run, tmp_path: Path) -> None:
    path, text = tmp_path / name, texts.CP2K if name == "cp2k.out" else OUTPUTS[name].text
    path.write_text(text[:1500])
    says = f"'{path}' could not be read as structures (it "
    refused("convert", path, "-o", tmp_path / "out.extxyz", says=says)
    refused("evaluate", "toy", "--data", path, says=says)


@pytest.mark.parametrize("name", ["cp2k.out", "cp2k.log", "output", "run.inp.out"])
def test_an_output_of_cp2k_is_refused_and_dpdata_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(texts.CP2K)
    with pytest.raises(StructureError, match=r"output of CP2K, which ASE does not read; dpdata does: .*cp2k/output"):
        ep.open_structures(tmp_path / name)


def test_a_dcd_of_cp2k_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.dcd").write_bytes(b"CORD")
    with pytest.raises(StructureError, match="a trajectory of CP2K without elements; dpdata reads its output"):
        ep.open_structures(tmp_path / "run.dcd")


def test_a_restart_of_cp2k_is_a_structure_without_labels(tmp_path: Path) -> None:
    atoms = texts.cp2k_step()
    cell, places = rows(atoms.cell.array, "ABC"), rows(atoms.positions, "OH")
    (tmp_path / "run.restart").write_text(
        f"&FORCE_EVAL\n&SUBSYS\n&CELL\n{cell}&END CELL\n&COORD\n{places}&END COORD\n&END SUBSYS\n&END FORCE_EVAL\n"
    )
    atoms.calc = None
    assert_same(ep.read_structures(tmp_path / "run.restart"), [atoms])


def test_what_dpdata_makes_of_cp2ks_output_has_its_labels(tmp_path: Path) -> None:
    """The way out that the message names, with the sign of the stress."""
    dpdata = pytest.importorskip("dpdata")
    (tmp_path / "cp2k.out").write_text(texts.CP2K)
    system = dpdata.LabeledSystem(str(tmp_path / "cp2k.out"), fmt="cp2k/output")
    system.to("deepmd/npy", str(tmp_path / "folder"))
    assert_same(ep.read_structures(tmp_path / "folder"), [texts.cp2k_step()])
