"""Batches from workers, from caches and from files: the same bits, and memory that does not grow."""

import gc
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
import pytest
import runs
import torch
from ase import Atoms
from runs import batch, everything, labelled, parent, rows, run, signalled, student
from torch import Tensor

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.labelling.hessian_labels import with_products
from equiprune.potentials.hessian import Rows
from equiprune.structures.neighbour_cache import NeighbourCache
from equiprune.structures.sequences import Mapped, Structures
from equiprune.training.batches import TrainingBatch, groups
from equiprune.training.hessian_batches import ProbeSchedule, ProbeSubset
from equiprune.training.loading import Batches, Loader, Request, translated_worker_errors
from equiprune.training.objective import FeatureLabels, mace_universal
from equiprune.training.scan import check_labels, digest
from equiprune.training.signals import StoppedError

CUTOFF = student().architecture.cutoff


def batches(sets: dict[str, Sequence[Atoms]] | None = None, **changes: Any) -> Batches:
    return Batches(sets or {"training": labelled(), "validation": labelled(1)}, CUTOFF, torch.float64, **changes)


def assert_same(a: TrainingBatch, b: TrainingBatch) -> None:
    for mine, other in ((a.graph, b.graph), (a.targets, b.targets)):
        for field in fields(mine):
            x, y = getattr(mine, field.name), getattr(other, field.name)
            if isinstance(x, FeatureLabels):
                assert x == y == FeatureLabels()  # no structure brings features along
                continue
            assert isinstance(x, Tensor)
            assert torch.equal(x.nan_to_num(), y.nan_to_num()), field.name
            assert torch.equal(x.isnan(), y.isnan()), field.name
    assert a.names == b.names


def asked(use: str, groups: Sequence[Sequence[int]]) -> list[Request]:
    return [Request(use, group) for group in groups]


def file_of(path: Path, structures: Sequence[Atoms], copies: int = 1) -> Path:
    ase.io.write(path, structures, format="extxyz")
    path.write_text(path.read_text() * copies)
    return path


def test_batches_are_those_of_the_structures_asked_for() -> None:
    load = Loader(batches())
    chosen = groups(8, 3, 0, 0)
    for found, group in zip(load(asked("training", chosen)), chosen, strict=True):
        assert_same(found, batch(student(), [labelled()[i] for i in group]))
    [found] = load(asked("validation", [[2]]))
    assert_same(found, batch(student(), [labelled(1)[2]]))


def test_hessian_products_come_when_it_is_their_turn() -> None:
    structures = list(with_products(parent(), labelled()[:2], Rows(3)))
    [found] = Loader(batches({"training": structures}))([Request("training", [1, 0], ProbeSchedule(2, 7, epoch=1))])
    assert_same(found, batch(student(), structures[::-1], [ProbeSubset(2, 7, i, epoch=1) for i in (1, 0)]))
    assert found.targets.vectors.shape[0] == 2


def test_batches_not_waited_for_do_not_come_later() -> None:
    load = Loader(batches())
    early = load(asked("training", [[0], [1], [2]]))
    next(early)
    assert [found.names for found in load(asked("validation", [[3], [4]]))] == [
        (labelled(1)[i].get_chemical_formula(),) for i in (3, 4)
    ]
    assert list(load([])) == []


def test_loading_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    list(Loader(batches())(asked("training", [[0], [1]])))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_two_workers_train_to_the_same_bits_as_none(tmp_path: Path) -> None:
    """From a file that is read as it goes, with a cache, stopped and gone on with."""
    path = file_of(tmp_path / "data.xyz", labelled())
    data, held_out = ep.open_structures(path), labelled(1)[:3]
    alone = run(tmp_path / "alone", structures=list(data), validation=held_out)
    given = {"structures": data, "validation": held_out, "cache": tmp_path / "cache"}
    with pytest.raises(StoppedError):
        run(tmp_path / "run", progress=signalled(5, 2), **given)
    shared = run(tmp_path / "run", workers=2, **given)
    assert rows(tmp_path / "alone") == rows(tmp_path / "run")
    for name, weight in alone.checkpoint.weights.items():
        assert torch.equal(weight, shared.checkpoint.weights[name]), name
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == len(data) + len(held_out)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_in_a_worker_is_the_same_message(workers: int) -> None:
    broken = Atoms("HO", positions=np.zeros((2, 3)))
    found = Loader(batches({"training": [labelled()[0], broken]}), workers)(asked("training", [[0], [1]]))
    next(found)
    with pytest.raises(StructureError, match=r"^Atoms 0 and 1 of HO are at the same place. Remove one\.$"):
        next(found)


def test_a_loss_that_a_finaliser_meets_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's signal handler raises anywhere; what a finaliser raises for another reason is still printed."""

    class Final:
        def __init__(self, words: str) -> None:
            self.words = words

        def __del__(self) -> None:
            raise RuntimeError(self.words)

    printed: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: printed.append(str(found.exc_value)))
    hook = sys.unraisablehook
    with translated_worker_errors():
        for words in ("DataLoader worker (pid 7) is killed by signal: Killed.", "something else"):
            Final(words)
    assert sys.unraisablehook is hook
    assert printed == ["something else"]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_a_message(tmp_path: Path) -> None:
    """In a process of its own: torch says it at every signal of any child for as long as the loader lives."""
    path = file_of(tmp_path / "data.xyz", labelled())
    script = [sys.executable, str(Path(__file__).with_name("lost_worker.py")), str(path), str(tmp_path / "run")]
    ran = subprocess.run(script, capture_output=True, text=True, check=False)
    assert ran.returncode == 2, ran.stderr
    assert "A worker that loads structures is gone: " in ran.stderr
    assert "Use fewer --workers" in ran.stderr
    assert "Traceback" not in ran.stderr


def ended(group: int, seconds: float = 60) -> bool:
    """Whether all processes of a group are gone after a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_signal_to_trainer_and_workers_leaves_the_trainer_in_charge(number: int, tmp_path: Path) -> None:
    """It finishes its step with their batches; where only it is killed, they end too."""
    command = [sys.executable, runs.__file__, str(tmp_path / "run"), "3", str(int(number)), "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            process.wait(timeout=120)
            assert ended(process.pid)  # before reading: whoever is left has stderr open
            assert process.stderr is not None
            errors = process.stderr.read().decode()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if number == signal.SIGKILL:
        assert process.returncode == -number, errors
        return
    assert "StoppedError: Interrupted after step 4; the same command goes on" in errors
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["state"]["step"] == 4


# Memory.


def peak(structures: Sequence[Atoms]) -> int:
    """Bytes that a check of all structures and an epoch of batches need at most."""
    tidied = Mapped(structures, tidy)
    gc.collect()
    gc.freeze()
    tracemalloc.start()
    try:
        check_labels(tidied, mace_universal(), student().elements, "training")
        load = Loader(batches({"training": tidied}))
        for _ in load(asked("training", groups(len(structures), 4, 0, 0))):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def tidy(atoms: Atoms) -> Atoms:
    """Objects that refer to each other go at once, not when Python likes."""
    gc.collect()
    return atoms


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["xyz", "aselmdb"])
def test_memory_does_not_grow_with_the_number_of_structures(suffix: str, tmp_path: Path) -> None:
    """Kept, these structures would be 4700 bytes each; where each begins is 8, its place in an epoch's order 36."""
    few, many = (opened(tmp_path / f"{copies}.{suffix}", copies) for copies in (20, 160))
    smaller, larger = (min(peak(structures) for _ in range(2)) for structures in (few, many))  # tables of Python grow
    assert (larger - smaller) / (len(many) - len(few)) < 500


def opened(path: Path, copies: int) -> Sequence[Atoms]:
    """So many times the same structure, so that no batch is larger than another."""
    if path.suffix == ".xyz":
        return ep.open_structures(file_of(path, labelled()[:1], copies))
    with ase.db.connect(path, use_lock_file=False) as database:
        for atoms in labelled()[:1] * copies:
            database.write(atoms)
    return ep.open_structures(path)


def test_one_pass_finds_what_there_is() -> None:
    read: list[int] = []

    class Once(Structures):
        def __len__(self) -> int:
            return 8

        def read(self, index: int) -> Atoms:
            read.append(index)
            return labelled()[index]

    scan_dataset = check_labels(Once(), mace_universal(), student().elements, "training")
    assert read == list(range(8))
    assert scan_dataset.digest == digest(everything(labelled()))
    assert scan_dataset.labels.of_quantity("energy") == {"calculator result energy": 7}
    assert scan_dataset.labels.of_quantity("stress") == {"calculator result stress": 7}


# The cache.


def test_a_cache_gives_the_same_bits(tmp_path: Path) -> None:
    cached = Loader(batches(near=NeighbourCache.at(tmp_path / "deep" / "cache")))
    plain = batch(student(), labelled())
    for _ in range(2):
        [found] = cached(asked("training", [range(8)]))
        assert_same(found, plain)
