"""DeePMD-kit's systems as folders: written here with numpy, and as their package ships them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from labelled_samples import assert_same, labelled, reference

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.structures.labels import LabelCounts, Labels, label_sources

MAP = ["H", "O", "Si"]


def arrays(frames: Sequence[Atoms]) -> dict[str, np.ndarray]:
    """A set of arrays; the virial is minus stress times volume."""
    found = {
        "coord": np.array([a.positions.ravel() for a in frames]),
        "energy": np.array([a.get_potential_energy() for a in frames]),
        "force": np.array([a.get_forces().ravel() for a in frames]),
    }
    if frames[0].pbc.all():
        found["box"] = np.array([a.cell.array.ravel() for a in frames])
        found["virial"] = np.array([-(a.get_stress(voigt=False) * a.get_volume()).ravel() for a in frames])
    return found


def write_set(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def write_system(folder: Path, sets: Sequence[Sequence[Atoms]]) -> Path:
    for i, frames in enumerate(sets):
        write_set(folder / f"set.{i:03d}", arrays(frames))
    (folder / "type.raw").write_text("\n".join(str(MAP.index(s)) for s in sets[0][0].get_chemical_symbols()) + "\n")
    (folder / "type_map.raw").write_text("\n".join(MAP) + "\n")
    if not sets[0][0].pbc.any():
        (folder / "nopbc").touch()
    return folder


def test_sets_are_read_one_after_another_with_stress_from_the_virial(tmp_path: Path) -> None:
    frames = [labelled(seed) for seed in range(5)]
    system = write_system(tmp_path / "system", [frames[:3], frames[3:]])
    opened = ep.open_structures(system)
    assert_same(opened, frames)
    assert_same(ep.read_structures(system), frames)
    assert_same([opened[4], opened[0], opened[-2]], [frames[4], frames[0], frames[3]])


def test_a_compressed_cell_has_negative_stress(tmp_path: Path) -> None:
    """A virial of +3 eV in 27 cubic Angstrom pushes outwards: stress -1/9 eV/Angstrom^3 in ASE's sign."""
    atoms = labelled(0)
    atoms.set_cell([3, 3, 3])
    found = {"coord": atoms.positions.reshape(1, -1), "box": 3 * np.eye(3).reshape(1, 9)}
    system = write_system(tmp_path / "system", [[labelled(0)]])
    for file in (system / "set.000").iterdir():
        file.unlink()
    (system / "set.000").rmdir()
    write_set(system / "set.000", found | {"virial": 3 * np.eye(3).reshape(1, 9)})
    [read] = ep.read_structures(system)
    np.testing.assert_allclose(read.get_stress(), [-1 / 9] * 3 + [0] * 3, rtol=1e-15)


def test_without_periodicity_there_is_no_box_and_no_stress(tmp_path: Path) -> None:
    frames = [labelled(seed, periodic=False) for seed in range(2)]
    assert_same(ep.read_structures(write_system(tmp_path / "system", [frames])), frames)


def test_a_folder_of_systems_and_files_is_read_in_order(tmp_path: Path) -> None:
    write_system(tmp_path / "b", [[labelled(1)]])
    write_system(tmp_path / "a" / "deeper", [[labelled(0)]])
    assert_same(ep.open_structures(tmp_path), [labelled(0), labelled(1)])


def test_single_precision_and_the_order_of_fortran_are_read(tmp_path: Path) -> None:
    frames = [labelled(seed) for seed in range(3)]
    system = write_system(tmp_path / "system", [frames])
    np.save(system / "set.000" / "coord.npy", np.asfortranarray(arrays(frames)["coord"]))
    np.save(system / "set.000" / "energy.npy", arrays(frames)["energy"].astype("float32").reshape(3, 1))
    found = list(ep.read_structures(system))
    for atoms, expected in zip(found, frames, strict=True):
        np.testing.assert_array_equal(atoms.positions, expected.positions)
        assert atoms.get_potential_energy() == np.float32(expected.get_potential_energy())


def write_mixed(folder: Path, frames: Sequence[Atoms]) -> Path:
    """Frames of different elements and numbers of atoms: padded with atoms of type -1."""
    most = max(map(len, frames))

    def padded(array: np.ndarray) -> np.ndarray:
        return np.vstack([array, np.zeros((most - len(array), 3))]).ravel()

    types = [[MAP.index(s) for s in a.get_chemical_symbols()] + [-1] * (most - len(a)) for a in frames]
    found = arrays(frames) if len({len(a) for a in frames}) == 1 else {}
    found |= {
        "coord": np.array([padded(a.positions) for a in frames]),
        "force": np.array([padded(a.get_forces()) for a in frames]),
        "energy": np.array([a.get_potential_energy() for a in frames]),
        "box": np.array([a.cell.array.ravel() for a in frames]),
        "virial": np.array([-(a.get_stress(voigt=False) * a.get_volume()).ravel() for a in frames]),
        "real_atom_types": np.array(types, dtype=np.int32),
    }
    write_set(folder / "set.000", found)
    (folder / "type.raw").write_text("0\n" * most)
    (folder / "type_map.raw").write_text("\n".join(MAP) + "\n")
    return folder


def test_mixed_systems_are_read_without_their_padding(tmp_path: Path) -> None:
    frames = [labelled(0, "OH2"), labelled(1, "SiO2H"), labelled(2, "H")]
    assert_same(ep.open_structures(write_mixed(tmp_path / "6", frames)), frames)


def test_labels_say_where_they_are_from(tmp_path: Path) -> None:
    system = write_system(tmp_path / "system", [[labelled(0)]])
    counted = LabelCounts.of(label_sources(atoms, Labels.of(atoms)) for atoms in ep.read_structures(system))
    assert str(counted) == (
        "Labels: energy from DeePMD energy (1 of 1), forces from DeePMD force (1 of 1), stress from DeePMD virial "
        "(stress = -virial/volume) (1 of 1)."
    )


@pytest.mark.parametrize("system", ["data_0", "data_1"])
def test_systems_as_deepmd_kit_ships_them_are_what_numpy_reads(system: str) -> None:
    folder = reference("deepmd_water", system)
    sets = sorted(folder.glob("set.*"))
    found = {n: np.concatenate([np.load(s / f"{n}.npy") for s in sets]) for n in ("coord", "box", "energy", "force")}
    types = np.loadtxt(folder / "type.raw", dtype=int)
    opened = ep.open_structures(folder)
    assert len(opened) == len(found["energy"]) > 0
    for i in range(0, len(opened), 7):
        atoms = opened[i]
        assert atoms.get_chemical_symbols() == [["O", "H"][t] for t in types]
        np.testing.assert_array_equal(atoms.positions, found["coord"][i].reshape(-1, 3).astype(float))
        np.testing.assert_array_equal(atoms.cell.array, found["box"][i].reshape(3, 3).astype(float))
        np.testing.assert_array_equal(atoms.get_forces(), found["force"][i].reshape(-1, 3).astype(float))
        assert atoms.get_potential_energy() == float(found["energy"][i])


def test_a_system_is_what_dpdata_reads(tmp_path: Path) -> None:
    dpdata = pytest.importorskip("dpdata")
    frames = [labelled(seed, "H2O") for seed in range(4)]
    system = write_system(tmp_path / "system", [frames[:1], frames[1:]])
    theirs = dpdata.LabeledSystem(str(system), fmt="deepmd/npy").to("ase/structure")
    assert_same(ep.read_structures(system), theirs)
    mixed = write_mixed(tmp_path / "3", frames)
    [theirs] = dpdata.MultiSystems.from_file(str(mixed), fmt="deepmd/npy/mixed")
    assert_same(ep.read_structures(mixed), theirs.to("ase/structure"))


BROKEN = {
    "type_map.raw": ("delete", "no type_map.raw"),
    "set.000/coord.npy": ("delete", "a set has no coord"),
    "set.000/box.npy": ("delete", "has a file nopbc"),
    "set.000/energy.npy": (np.zeros(3), "different numbers of frames"),
    "set.000/force.npy": (np.zeros((2, 4)), "Structure 0"),
    "set.000/virial.npy": (np.array([None, None]), "pickled objects"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_system_that_does_not_add_up_is_refused(name: str, tmp_path: Path) -> None:
    system = write_system(tmp_path / "system", [[labelled(0), labelled(1)]])
    change, says = BROKEN[name]
    if isinstance(change, str):
        (system / name).unlink()
    else:
        np.save(system / name, change, allow_pickle=True)
    with pytest.raises(StructureError, match=says):
        list(ep.read_structures(system))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("type_map.raw", "H\nOW\n", "names OW, and elements are needed"),
        ("type_map.raw", "H\n", "types 0 to 1, and type_map.raw names 1: H"),
        ("type.raw", "0\nx\n", "could not be read"),
    ],
)
def test_types_without_an_element_are_refused(name: str, text: str, says: str, tmp_path: Path) -> None:
    system = write_system(tmp_path / "system", [[labelled(0)]])
    (system / name).write_text(text)
    with pytest.raises(StructureError, match=says):
        list(ep.read_structures(system))


def test_a_set_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    system = write_system(tmp_path / "system", [[labelled(0)]])
    file = system / "set.000" / "force.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(StructureError, match=r"force\.npy is cut off"):
        ep.open_structures(system)


def test_a_system_without_sets_says_how_to_make_them(tmp_path: Path) -> None:
    (tmp_path / "type.raw").write_text("0\n")
    (tmp_path / "type_map.raw").write_text("H\n")
    with pytest.raises(StructureError, match="deepmd/raw"):
        ep.open_structures(tmp_path)
