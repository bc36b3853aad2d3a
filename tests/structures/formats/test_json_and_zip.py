"""Sets of the Materials Project in JSON, and archives of extxyz files."""

import bz2
import gzip
import json
import lzma
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from labelled_samples import assert_same, labelled, reference

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.structures.labels import Labels, label_sources

GPA = 1 / 160.21766208
"""eV/Angstrom^3"""


def pymatgen(atoms: Atoms, *, cartesian: bool = True) -> dict[str, Any]:
    """As pymatgen's ``Structure.as_dict`` writes it."""
    places = atoms.positions if cartesian else atoms.cell.scaled_positions(atoms.positions)
    sites = [
        {"species": [{"element": s, "occu": 1}], "xyz" if cartesian else "abc": p.tolist(), "label": s}
        for s, p in zip(atoms.get_chemical_symbols(), places, strict=True)
    ]
    lattice = {"matrix": atoms.cell.array.tolist(), "pbc": [True, True, True], "a": 6.0}
    return {"@module": "pymatgen.core.structure", "@class": "Structure", "lattice": lattice, "sites": sites}


def kbar(atoms: Atoms) -> np.ndarray:
    """VASP's stress: 10 kbar are a GPa, positive where the cell is compressed."""
    return -10 * atoms.get_stress(voigt=False) / GPA


def mptrj(materials: dict[str, list[Atoms]]) -> dict[str, Any]:
    return {
        material: {
            f"{material}-0-{i}": {
                "structure": pymatgen(atoms),
                "uncorrected_total_energy": atoms.get_potential_energy(),
                "corrected_total_energy": atoms.get_potential_energy() - 1,
                "energy_per_atom": 7.0,
                "force": atoms.get_forces().tolist(),
                "stress": kbar(atoms).tolist(),
                "magmom": None,
            }
            for i, atoms in enumerate(frames)
        }
        for material, frames in materials.items()
    }


def matpes(frames: list[Atoms]) -> list[dict[str, Any]]:
    return [
        {
            "matpes_id": f"matpes-{i}",
            "functional": "PBE",
            "structure": pymatgen(atoms, cartesian=False),
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces().tolist(),
            "stress": [kbar(atoms)[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))],
        }
        for i, atoms in enumerate(frames)
    ]


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_mptrj_is_read_with_raw_energies_and_ases_stress(suffix: str, tmp_path: Path) -> None:
    first, second = [labelled(0), labelled(1)], [labelled(2, "SiO2")]
    compress: Any = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[suffix]
    path = tmp_path / f"MPtrj.json{suffix}"
    path.write_bytes(compress(json.dumps(mptrj({"mp-1": first, "mp-2": second})).encode()))
    found = list(ep.read_structures(path))
    assert_same(found, first + second)
    assert [atoms.info["mp_id"] for atoms in found] == ["mp-1", "mp-1", "mp-2"]
    assert label_sources(found[0], Labels.of(found[0]))["stress"] == "stress (kbar, VASP's sign)"


def test_a_kbar_of_vasp_is_minus_a_tenth_of_a_gigapascal(tmp_path: Path) -> None:
    entry = mptrj({"mp-1": [labelled(0)]})
    entry["mp-1"]["mp-1-0-0"]["stress"] = (10 * np.eye(3)).tolist()
    (tmp_path / "a.json").write_text(json.dumps(entry))
    [atoms] = ep.read_structures(tmp_path / "a.json")
    np.testing.assert_allclose(atoms.get_stress()[:3], -0.00624150907, rtol=1e-7)


def test_a_label_that_mptrj_lacks_is_none(tmp_path: Path) -> None:
    entry = mptrj({"mp-1": [labelled(0)]})
    entry["mp-1"]["mp-1-0-0"] |= {"stress": None, "force": None}
    (tmp_path / "a.json").write_text(json.dumps(entry))
    [atoms] = ep.read_structures(tmp_path / "a.json")
    labels = Labels.of(atoms)
    assert (labels.forces, labels.stress) == (None, None)
    assert labels.energy is not None


def test_matpes_is_read(tmp_path: Path) -> None:
    frames = [labelled(0), labelled(1, "SiO2")]
    (tmp_path / "MatPES-PBE.json.gz").write_bytes(gzip.compress(json.dumps(matpes(frames)).encode()))
    found = list(ep.open_structures(tmp_path / "MatPES-PBE.json.gz"))
    assert_same(found, frames, tolerance=1e-12)
    assert found[1].info["matpes_id"] == "matpes-1"


def test_a_structure_is_what_pymatgen_reads(tmp_path: Path) -> None:
    core = pytest.importorskip("pymatgen.core")
    frames = [labelled(0), labelled(1, "SiO2")]
    (tmp_path / "a.json").write_text(json.dumps(matpes(frames)))
    for atoms, entry in zip(ep.read_structures(tmp_path / "a.json"), matpes(frames), strict=True):
        theirs = core.Structure.from_dict(entry["structure"])
        np.testing.assert_allclose(atoms.positions, theirs.cart_coords, rtol=0, atol=1e-12)
        assert atoms.get_chemical_symbols() == [site.specie.symbol for site in theirs]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.json"
        path.write_text(json.dumps(mptrj({f"mp-{i}": [labelled(i)] for i in range(count)})))
        tracemalloc.start()
        assert sum(1 for _ in ep.read_structures(path)) == count
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(80) < 1.3 * peak(40)


@pytest.mark.parametrize("cut", [0.3, 0.5, 0.999])
def test_json_that_is_cut_off_is_refused(cut: float, tmp_path: Path) -> None:
    text = json.dumps(mptrj({f"mp-{i}": [labelled(i)] for i in range(4)}))
    (tmp_path / "a.json").write_text(text[: int(cut * len(text))])
    with pytest.raises(StructureError, match=r"a\.json' could not be read as structures"):
        list(ep.read_structures(tmp_path / "a.json"))


def test_a_site_of_several_elements_is_refused(tmp_path: Path) -> None:
    entry = matpes([labelled(0)])
    entry[0]["structure"]["sites"][0]["species"] = [{"element": "O", "occu": 0.5}, {"element": "H", "occu": 0.5}]
    (tmp_path / "a.json").write_text(json.dumps(entry))
    with pytest.raises(StructureError, match="occupied in part or by several"):
        list(ep.read_structures(tmp_path / "a.json"))


def test_without_ijson_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text(json.dumps(matpes([labelled(0)])))
    monkeypatch.setitem(sys.modules, "ijson", None)
    with pytest.raises(StructureError, match=r"needs ijson.*equiprune\[json\]"):
        list(ep.read_structures(tmp_path / "a.json"))


# Archives.


def archive(path: Path, members: dict[str, list[Atoms] | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            if not isinstance(content, str):
                ase.io.write(path.parent / "member", content, format="extxyz")
                content = (path.parent / "member").read_text()
                (path.parent / "member").unlink()
            file.writestr(name, content)
    return path


def test_an_archive_is_its_files_by_name(tmp_path: Path) -> None:
    members: dict[str, Any] = {"b.extxyz": [labelled(2)], "a/x.extxyz": [labelled(0), labelled(1)]}
    path = archive(tmp_path / "mp-trj.extxyz.zip", members | {"__MACOSX/._b.extxyz": "not one"})
    assert_same(ep.read_structures(path), [labelled(seed) for seed in range(3)], tolerance=1e-7)  # as ASE writes them
    assert len(ep.open_structures(path)) == 3


def test_an_archive_of_other_files_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.extxyz": [labelled(0)], "notes.pdf": "text"})
    with pytest.raises(StructureError, match=r"it has 'notes\.pdf', and only archives of \.extxyz"):
        list(ep.read_structures(path))


def test_a_structure_of_an_archive_that_is_cut_off_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.extxyz": "2\n\nH 0 0 0\n"})
    with pytest.raises(StructureError, match="structure 0 is cut off"):
        list(ep.read_structures(path))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_an_archive_that_is_cut_off_is_refused(kept: float, tmp_path: Path) -> None:
    content = archive(tmp_path / "a.zip", {"a.extxyz": [labelled(0)]}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(StructureError, match=r"cut\.zip' could not be read"):
        list(ep.read_structures(tmp_path / "cut.zip"))


def test_an_archive_of_real_data_is_what_ase_reads(tmp_path: Path) -> None:
    text = lzma.decompress(next(reference("wbm_sample").glob("*.xz")).read_bytes()).decode()
    path = archive(tmp_path / "wbm.extxyz.zip", {"wbm.extxyz": text})
    (tmp_path / "wbm.extxyz").write_text(text)
    expected = ase.io.read(tmp_path / "wbm.extxyz", ":40")
    found = ep.read_structures(path)
    assert_same([next(found) for _ in range(40)], expected)
