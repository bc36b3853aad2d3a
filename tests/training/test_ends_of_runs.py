"""How runs end: by hand, by a closed terminal, by a kill or by diverging at the very last, and what is left then."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from runs import RECIPE, parent, run, signalled, student

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.training import trainer
from equiprune.training.objective import mace_weighted
from equiprune.training.optimisation import Optimisation
from equiprune.training.recipe import Recipe
from equiprune.training.run_folder import RunFolder
from equiprune.training.signals import StoppedError, graceful_shutdown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_asked_to_end_saves_the_step_it_is_in(number: int, tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="after step 6; the same command goes on from there"):
        run(tmp_path / "run", progress=signalled(5, number))
    assert RunFolder(tmp_path / "run").state()["state"]["step"] == 6


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_is_ignored_stays_ignored(number: int) -> None:
    """By nohup, or in the background of a script."""
    before, stopped = signal.signal(number, signal.SIG_IGN), []
    try:
        with graceful_shutdown(lambda: stopped.append(True)):
            os.kill(os.getpid(), number)
            assert signal.getsignal(number) is signal.SIG_IGN
        assert stopped == []
    finally:
        signal.signal(number, before)


@pytest.mark.slow
def test_time_is_a_reason_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill then costs minutes, however many steps an epoch has."""
    monkeypatch.setattr(trainer, "_LONGEST_UNSAVED", 0.0)
    saved: list[int] = []
    keep = trainer._Loop.save
    monkeypatch.setattr(trainer._Loop, "save", lambda loop: (saved.append(loop.state.step), keep(loop)))
    run(tmp_path / "run", replace(RECIPE, save_every=500))
    assert saved == list(range(1, 13))


@pytest.mark.parametrize("rate", [1e200, 1e308])
def test_a_run_that_diverges_in_its_last_step_gives_no_model(rate: float, tmp_path: Path) -> None:
    """No step after it and no validation would see it."""
    recipe = Recipe(mace_weighted(), Optimisation(rate, clip=None, average=None), epochs=1, batch_size=8)
    with pytest.raises(StructureError, match="Training has diverged"):
        run(tmp_path / "run", recipe, validation=())
    assert not (tmp_path / "run" / "model").exists()


def test_a_learning_rate_beyond_single_precision_is_no_traceback(tmp_path: Path) -> None:
    recipe = Recipe(mace_weighted(), Optimisation(1e39, clip=None, average=None), epochs=1, batch_size=8)
    with pytest.raises(StructureError, match=r"a step at a learning rate of 1e\+39 is not finite. Lower"):
        run(tmp_path / "run", recipe, potential=student().with_dtype(ep.load("toy").dtype), validation=())


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_moved_to(tmp_path: Path) -> None:
    """And so may the model that it starts from."""
    model = tmp_path / "model"
    ep.save(student(), model)
    with pytest.raises(StoppedError):
        run(tmp_path / "run", potential=ep.load(model, dtype=parent().dtype), progress=signalled(5, signal.SIGTERM))
    model.rename(tmp_path / "moved")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    run(tmp_path / "elsewhere", potential=ep.load(tmp_path / "moved", dtype=parent().dtype))
    assert (tmp_path / "elsewhere" / "model").exists()
