"""Starting structures: all kinds and elements, no atoms too close, sizes, and the same again for a seed."""

import numpy as np
import pytest
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

import equiprune as ep
from equiprune.errors import TargetError
from equiprune.structures.closeness import too_close
from equiprune.structures.prototypes import BINARIES, LATTICES, binary, lattice, perovskite
from equiprune.structures.starting import CLOSEST, counted

LPS = (3, 15, 16)


@pytest.fixture(scope="module")
def found() -> list[Atoms]:
    return list(ep.starting_structures(LPS, 160, seed=2, max_atoms=24))


def bits(structures: list[Atoms]) -> list[tuple[bytes, ...]]:
    return [(a.numbers.tobytes(), a.positions.tobytes(), a.cell.array.tobytes(), a.pbc.tobytes()) for a in structures]


@pytest.mark.slow
def test_every_kind_and_element_is_there_and_nothing_is_too_large_or_too_close(found: list[Atoms]) -> None:
    crystals = (*LATTICES, *BINARIES)
    more = {f"{name}{how}" for name in crystals for how in ("", " with vacancies", ", compressed")}
    assert counted(found).keys() == more | {"perovskite", "random", "dimer"}
    for kind in ("fcc", "rocksalt", "dimer", "random"):
        assert {z for a in found if a.info["config_type"] == kind for z in a.numbers.tolist()} == set(LPS)
    assert max(map(len, found)) <= 24
    assert not any(too_close(atoms, CLOSEST) for atoms in found)
    assert len(set(bits(found))) == len(found)
    assert all(atoms.calc is None and atoms.info.keys() == {"config_type"} for atoms in found)


def test_the_first_part_has_all_kinds_of_structures(found: list[Atoms]) -> None:
    assert {a.info["config_type"] for a in found[:10]} >= {"fcc", "rocksalt", "dimer", "perovskite", "random"}


def test_a_larger_set_holds_the_smaller_one_and_a_seed_has_its_own(found: list[Atoms]) -> None:
    assert bits(list(ep.starting_structures(LPS, 25, seed=2, max_atoms=24))) == bits(found[:25])
    other = bits(list(ep.starting_structures(LPS, 25, seed=3, max_atoms=24)))
    assert not set(other) & set(bits(found))


def test_pairs_and_compressed_crystals_reach_the_repulsive_wall(found: list[Atoms]) -> None:
    pairs = [a for a in found if a.info["config_type"] == "dimer"]
    reach = [a.get_distance(0, 1) / covalent_radii[a.numbers].sum() for a in pairs]
    assert min(reach) < 0.8
    assert max(reach) > 2.2
    assert not any(a.pbc.any() for a in pairs)
    volume = {
        how: np.median(
            [a.get_volume() / (covalent_radii[a.numbers] ** 3).sum() for a in found if a.info["config_type"] == how]
        )
        for how in ("rocksalt", "rocksalt, compressed")
    }
    assert volume["rocksalt, compressed"] < 0.75 * volume["rocksalt"]


@pytest.mark.slow
def test_one_element_has_what_one_element_can_have() -> None:
    kinds = counted(list(ep.starting_structures([14], 60))).keys()
    assert kinds & {"dimer", "random", "fcc", "diamond with vacancies", "sc, compressed"}
    assert not kinds & {*BINARIES, "perovskite"}
    assert "perovskite" not in counted(list(ep.starting_structures([14, 8], 60)))


def test_heavy_and_light_elements_can_be_built() -> None:
    for elements in ([1, 2], [87, 9], [96], list(range(1, 97))):
        assert len(list(ep.starting_structures(elements, 30, max_atoms=8))) == 30


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"elements": []}, "`elements` names each element once, and at least one"),
        ({"elements": [3, 3]}, "`elements` names each element once"),
        ({"elements": [3, 97]}, "`elements` Bk have no covalent radius"),
        ({"elements": [0]}, "`elements` 0 have no covalent radius"),
        ({"elements": [-5, 999]}, "`elements` -5, 999 have no"),
        ({"elements": [3], "count": 0}, "`count` 0 is not possible"),
        ({"elements": [3], "max_atoms": 7}, "`max_atoms` 7 is not possible: give 8 or more"),
    ],
)
def test_what_cannot_be_built_is_refused_at_once(given: dict, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        ep.starting_structures(**given)


# Prototypes.


@pytest.mark.parametrize(("name", "neighbours"), [("fcc", 12), ("bcc", 8), ("hcp", 12), ("diamond", 4), ("sc", 6)])
def test_lattices_have_their_neighbours(name: str, neighbours: int) -> None:
    assert _coordination(lattice(29, name)) == {neighbours}


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("rocksalt", 6, 6), ("cesiumchloride", 8, 8), ("zincblende", 4, 4), ("fluorite", 8, 4), ("wurtzite", 4, 4)],
)
def test_compounds_have_their_neighbours_at_the_bond_of_the_radii(name: str, first: int, second: int) -> None:
    atoms = binary(12, 8, name)
    i, j, d = neighbor_list("ijd", atoms, 1.05 * 1.06 * covalent_radii[[12, 8]].sum())
    unlike = atoms.numbers[i] != atoms.numbers[j]
    assert {z: np.bincount(i[unlike]).tolist()[list(atoms.numbers).index(z)] for z in (12, 8)} == {12: first, 8: second}
    np.testing.assert_allclose(d[unlike], 1.05 * covalent_radii[[12, 8]].sum(), rtol=1e-3)


def test_perovskites_have_their_neighbours() -> None:
    atoms = perovskite(38, 22, 8)
    assert atoms.get_chemical_formula() == "O3SrTi"
    distances = atoms.get_all_distances(mic=True)
    titanium, oxygens, strontium = 1, [2, 3, 4], 0
    np.testing.assert_allclose(distances[titanium, oxygens], atoms.cell.lengths()[0] / 2)
    np.testing.assert_allclose(distances[strontium, oxygens], atoms.cell.lengths()[0] / np.sqrt(2))


def _coordination(atoms: Atoms) -> set[int]:
    big = atoms.repeat(4)
    _, d = neighbor_list("id", big, 8.0)
    i = neighbor_list("i", big, 1.05 * d.min())
    return set(np.bincount(i).tolist())
