"""A few frames of each structure."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

import equiprune as ep
from equiprune.errors import StructureError, TargetError
from equiprune.structures.sampling import held_out_frames, sample_frames, structure_ids

frames, most, seeds = st.lists(st.integers(0, 6), max_size=60), st.integers(1, 5), st.integers(0, 5)


@given(frames, most, seeds)
def test_every_structure_keeps_as_many_frames_as_it_may(ids: list[int], most: int, seed: int) -> None:
    kept = sample_frames(ids, most, seed).tolist()
    assert kept == sorted(set(kept))
    assert Counter(ids[i] for i in kept) == {i: min(most, count) for i, count in Counter(ids).items()}
    assert kept == sample_frames(ids, most, seed).tolist()


@given(frames, most, seeds)
def test_a_larger_sample_holds_the_smaller_one(ids: list[int], most: int, seed: int) -> None:
    assert set(sample_frames(ids, most, seed)) <= set(sample_frames(ids, most + 1, seed))


def test_every_frame_of_a_structure_is_as_likely() -> None:
    chosen = Counter(int(sample_frames([0, 1, 0, 0, 1], 1, seed)[0]) for seed in range(600))
    ids = Counter(i for seed in range(600) for i in sample_frames([0, 0, 0, 0], 1, seed).tolist())
    assert len(chosen) > 1
    assert all(100 < ids[i] < 200 for i in range(4))


@given(frames.filter(lambda ids: len(set(ids)) > 1), st.floats(0.01, 0.99), seeds)
def test_no_structure_is_on_both_sides(ids: list[int], share: float, seed: int) -> None:
    held_out = held_out_frames(ids, share, seed).tolist()
    assert held_out == sorted(set(held_out))
    there = {ids[i] for i in held_out}
    left = {ids[i] for i in set(range(len(ids))) - set(held_out)}
    assert there
    assert left
    assert there.isdisjoint(left)
    assert len(there) == pytest.approx(share * len(set(ids)), abs=1)


@given(frames.filter(lambda ids: len(set(ids)) > 1), st.floats(0.01, 0.8), seeds)
def test_a_larger_share_holds_out_what_the_smaller_one_does(ids: list[int], share: float, seed: int) -> None:
    assert set(held_out_frames(ids, share, seed)) <= set(held_out_frames(ids, share + 0.1, seed))


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(TargetError, match="between 0 and 1"):
        held_out_frames([0, 1], share)


def test_a_single_structure_is_not_shared() -> None:
    with pytest.raises(TargetError, match=r"A single structure .* Give `validation`"):
        held_out_frames([0, 0, 0], 0.5)


def test_structures_are_told_apart_by_a_key() -> None:
    values = ["mp-2", "mp-1", "mp-2", 7, "7", "mp-1"]
    assert structure_ids([Atoms("H", info={"traj": value}) for value in values], "traj").tolist() == [0, 1, 0, 2, 2, 1]


def test_a_frame_without_the_key_is_refused_with_the_keys_it_has() -> None:
    structures = [Atoms("H", info={"traj": "a", "id": 1}), Atoms("H", info={"id": 2, "tray": 3})]
    with pytest.raises(StructureError, match=r"Structure 1 has no 'traj'.*Did you mean 'tray'\? It has: id, tray\."):
        structure_ids(structures, "traj")
    with pytest.raises(StructureError, match="no info at all"):
        structure_ids([Atoms("H")], "traj")


@pytest.mark.slow
def test_the_structures_of_mptrj_are_told_apart() -> None:
    if "EQUIPRUNE_DATA" not in os.environ:
        pytest.skip("EQUIPRUNE_DATA does not name a folder of reference data")
    sample = Path(os.environ["EQUIPRUNE_DATA"]) / "mptrj_sample" / "mptrj-random-1k.extxyz.xz"
    ids = structure_ids(ep.read_structures(sample), "traj")
    assert len(sample_frames(ids, 1)) == len(np.unique(ids)) < len(ids)
