"""Neighbours that are remembered: the same pairs, whatever happened to the files."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from runs import labelled, run, student

from equiprune.errors import OutputError
from equiprune.structures.neighbour_cache import NeighbourCache

CUTOFF = student().architecture.cutoff


def test_what_is_cached_is_not_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = NeighbourCache(tmp_path)
    for atoms in labelled():
        cache(atoms, CUTOFF)
    monkeypatch.setattr("equiprune.structures.neighbour_cache.neighbours", lambda *_: pytest.fail("found again"))
    other = labelled()[0].copy()
    other.numbers[:] = 14  # neighbours do not depend on elements or labels
    cache(other, CUTOFF)


def test_whatever_moves_a_neighbour_is_another_entry(tmp_path: Path) -> None:
    cache, atoms = NeighbourCache(tmp_path), labelled()[0]
    moved, strained, slab = atoms.copy(), atoms.copy(), atoms.copy()
    moved.positions[0, 0] = np.nextafter(moved.positions[0, 0], np.inf)
    strained.cell[0, 0] += 1e-12
    slab.pbc = (True, True, False)
    paths = {cache.path(changed, CUTOFF) for changed in (atoms, moved, strained, slab)}
    assert len(paths | {cache.path(atoms, CUTOFF + 1e-9)}) == 5


@pytest.mark.parametrize("damage", ["empty", "short", "cut off", "changed", "foreign"])
def test_a_damaged_entry_is_found_anew(damage: str, tmp_path: Path) -> None:
    cache, atoms = NeighbourCache(tmp_path), labelled()[0]
    first = cache(atoms, CUTOFF)
    path = cache.path(atoms, CUTOFF)
    whole = path.read_bytes()
    changed = whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]
    contents = {"empty": b"", "short": whole[:3], "cut off": whole[:-20], "changed": changed, "foreign": b"hello" * 9}
    path.write_bytes(contents[damage])
    again = cache(atoms, CUTOFF)
    assert np.array_equal(first.pairs, again.pairs)
    assert np.array_equal(first.images, again.images)
    assert path.read_bytes() == whole
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_atoms_without_neighbours_are_cached_too(tmp_path: Path) -> None:
    cache = NeighbourCache(tmp_path)
    for _ in range(2):
        found = cache(Atoms("H"), CUTOFF)
        assert (found.pairs.shape, found.images.shape) == ((2, 0), (0, 3))


def test_a_cache_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for folder in (tmp_path / "file", tmp_path / "file" / "cache", Path("/proc/cache")):
        with pytest.raises(OutputError, match=f"The cache '{folder}' cannot be made"):
            run(tmp_path / "run", cache=folder)
    assert not (tmp_path / "run").exists()
