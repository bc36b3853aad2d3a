"""The loop: its gradients, that it learns, that stopping it changes nothing, and what it refuses."""

import csv
import errno
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from ase import Atoms
from runs import RECIPE, labelled, mean_squares, parent, rows, run, signalled, student, vacuum
from torch import Tensor, nn

import equiprune as ep
from equiprune.errors import CheckpointError, EquipruneError, OutputError, StructureError, TargetError
from equiprune.training import trainer
from equiprune.training.labelling import Augmentation, augmented, label
from equiprune.training.objective import Objective, Square, Term, mace_universal, mace_weighted
from equiprune.training.optimisation import Constant, Linear, Optimisation
from equiprune.training.recipes import Recipe
from equiprune.training.stopping import StoppedError

WEIGHTS = {"energy": 1.0, "forces": 10.0, "stress": 1000.0}
SQUARES = Objective(**{name: Term(weight, Square()) for name, weight in WEIGHTS.items()})


def plain(**changes: Any) -> Optimisation:
    """Adam and nothing else."""
    return Optimisation(**({"clip": None, "average": None} | changes))


def weights_of(potential: ep.Potential) -> dict[str, Tensor]:
    return dict(potential.checkpoint.weights)


def assert_same_weights(a: ep.Potential, b: ep.Potential) -> None:
    assert weights_of(a).keys() == weights_of(b).keys()
    assert not [name for name, weight in weights_of(a).items() if not torch.equal(weight, weights_of(b)[name])]


def loss_by_hand(potential: ep.Potential, structures: Any) -> float:
    return sum(WEIGHTS[name] * value for name, value in mean_squares(potential, structures).items())


# Gradients.


@pytest.fixture
def trained_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[], nn.Module]:
    """The module inside the last run, with the gradients of its last step."""
    seen: list[nn.Module] = []
    made = trainer.optimizer

    def remember(module: nn.Module, *arguments: Any) -> torch.optim.Optimizer:
        seen.append(module)
        return made(module, *arguments)

    monkeypatch.setattr(trainer, "optimizer", remember)
    return lambda: seen[-1]


def moved(potential: ep.Potential, name: str, index: int, by: float) -> ep.Potential:
    """The same model with one number changed."""
    weight = weights_of(potential)[name].clone()
    weight.view(-1)[index] += by
    checkpoint = replace(potential.checkpoint, weights=weights_of(potential) | {name: weight})
    return ep.Potential.create(potential.adapter, checkpoint, potential.dtype)


def test_the_gradient_of_a_step_is_that_of_finite_differences(
    trained_module: Callable[[], nn.Module], tmp_path: Path
) -> None:
    """Of energies, forces and stress: third derivatives. Structures without a label, and without a cell, take part."""
    recipe = Recipe(SQUARES, plain(), epochs=1, batch_size=8)
    run(tmp_path / "run", recipe, validation=())
    step, generator = 1e-5, torch.Generator().manual_seed(0)
    for name, parameter in trained_module().named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-4, name
        for index in torch.randint(parameter.numel(), (2,), generator=generator).tolist():
            above, below = (loss_by_hand(moved(student(), name, index, by), labelled()) for by in (step, -step))
            found = parameter.grad.view(-1)[index].item()
            assert found == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-7), (name, index)


def test_the_gradient_is_clipped_to_its_largest_norm(trained_module: Callable[[], nn.Module], tmp_path: Path) -> None:
    gradients = []
    for clip in (None, 0.01):
        run(tmp_path / str(clip), Recipe(SQUARES, plain(clip=clip), epochs=1, batch_size=8))
        found = [p.grad.flatten() for p in trained_module().parameters() if p.grad is not None]
        gradients.append(torch.cat(found))
    free, clipped = gradients
    assert clipped.norm() == pytest.approx(0.01, rel=1e-4)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm())


def test_the_curve_shows_the_losses_worked_out_by_hand(tmp_path: Path) -> None:
    """Of the first step before anything moved; of validation with the weights there were then."""
    after = run(tmp_path / "run", Recipe(SQUARES, plain(), epochs=1, batch_size=8))
    [row] = rows(tmp_path / "run")
    for name, value in mean_squares(student(), labelled()).items():
        assert float(row[f"train_{name}"]) == pytest.approx(WEIGHTS[name] * value)
    for name, value in mean_squares(after, labelled(1)[:4]).items():
        assert float(row[f"validation_{name}"]) == pytest.approx(WEIGHTS[name] * value)


def test_one_step_is_one_step_of_adam(trained_module: Callable[[], nn.Module], tmp_path: Path) -> None:
    """The first one is g / (|g| + 1e-8) times the learning rate, and weight decay as AdamW has it."""
    after = run(tmp_path / "run", Recipe(SQUARES, plain(learning_rate=1e-3, weight_decay=0.1), epochs=1, batch_size=8))
    for name, parameter in trained_module().named_parameters():
        before, g = weights_of(student())[name], parameter.grad
        expected = before if g is None else before * (1 - 1e-3 * 0.1) - 1e-3 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(weights_of(after)[name], expected, rtol=1e-12, atol=1e-12)


# Learning.


def test_a_pruned_model_learns_to_be_its_parent(tmp_path: Path) -> None:
    bare = [atoms for seed in range(2) for atoms in ep.probe_structures([1, 6, 8, 14], seed).values()]
    data = list(label(parent(), augmented(bare, Augmentation(copies=2))))
    held_out = list(label(parent(), augmented(ep.probe_structures([1, 6, 8, 14], 7).values(), Augmentation(copies=1))))
    recipe = Recipe(SQUARES, Optimisation(learning_rate=3e-2, schedule=Linear(0.05), average=0.9), 12, batch_size=4)
    after = run(tmp_path / "run", recipe, structures=data, validation=held_out)
    assert loss_by_hand(after, held_out) < loss_by_hand(student(), held_out) / 50
    before, trained = mean_squares(student(), held_out), mean_squares(after, held_out)
    assert all(trained[name] < before[name] / 2 for name in WEIGHTS)


def test_the_input_is_left_as_it_was(tmp_path: Path) -> None:
    start = ep.Potential.create(student().adapter, student().checkpoint, torch.float64)
    start.module.readout_weight.requires_grad_(False)
    state = {name: value.clone() for name, value in start.module.state_dict().items()}
    weights = {name: value.clone() for name, value in weights_of(start).items()}
    structures = [atoms.copy() for atoms in labelled()]
    for atoms, original in zip(structures, labelled(), strict=True):
        atoms.calc = original.calc
    after = run(tmp_path / "run", potential=start)
    assert all(torch.equal(state[name], value) for name, value in start.module.state_dict().items())
    assert all(torch.equal(weights[name], value) for name, value in weights_of(start).items())
    assert not start.module.training
    assert all(parameter.grad is None for parameter in start.module.parameters())
    assert not start.module.readout_weight.requires_grad
    assert not torch.equal(weights_of(after)["embedding_weight"], weights["embedding_weight"])


def test_the_best_model_is_the_one_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    held_out = labelled(1)[:4]
    after = run(tmp_path / "run", Recipe(SQUARES, plain(learning_rate=0.3), epochs=8, batch_size=4))
    losses = [
        sum(float(row[f"validation_{name}"]) for name in WEIGHTS)
        for row in rows(tmp_path / "run")
        if row["validation_energy"]
    ]
    assert len(losses) == 8
    assert min(losses) < losses[-1]  # or the last one could pass for the best
    assert loss_by_hand(after, held_out) == pytest.approx(min(losses))
    last = ep.load(tmp_path / "run" / "last", dtype=torch.float64)
    assert loss_by_hand(last, held_out) == pytest.approx(losses[-1])
    assert last.checkpoint.history == after.checkpoint.history


def test_without_validation_the_last_average_is_the_result(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    after = run(tmp_path / "run", recipe, validation=())
    assert not (tmp_path / "run" / "last").exists()
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    for name, weight in weights_of(after).items():
        assert torch.equal(weight, state["state"]["average"][name])
    module = state["module"]["module.embedding_weight"]
    assert not torch.equal(module, weights_of(after)["embedding_weight"])


def test_the_result_is_written_and_says_how_it_was_made(tmp_path: Path) -> None:
    after = run(tmp_path / "run", fingerprints={"data": "1234"})
    assert_same_weights(after, ep.load(tmp_path / "run" / "model", dtype=torch.float64))
    *before, step = after.checkpoint.history
    assert tuple(before) == student().checkpoint.history
    assert (step["step"], step["steps"], step["recipe"]) == ("train", 12, RECIPE.to_json())
    assert (step["parent"], step["data"]) == (student().checkpoint.source, {"data": "1234"})
    assert ep.load(tmp_path / "run" / "model").checkpoint.history == after.checkpoint.history


def test_a_trained_model_is_certified_for_its_physics_only(tmp_path: Path) -> None:
    ep.save(parent(), tmp_path / "parent")
    start = ep.load(tmp_path / "parent", dtype=torch.float64)
    ep.save(ep.prune(start, ep.PruningPlan.nothing()), tmp_path / "child")
    child = ep.load(tmp_path / "child", dtype=torch.float64)
    assert "masked_vs_sliced.energy" in ep.certify(child, start, nve_steps=2).values
    run(tmp_path / "run", replace(RECIPE, epochs=1), potential=child)
    certificate = ep.certify(ep.load(tmp_path / "run" / "model"), start, nve_steps=2)
    assert certificate.passed
    assert {"equivariance.forces", "finite_difference.forces"} < certificate.values.keys()
    assert not [name for name in certificate.values if name.startswith(("masked_vs_sliced", "stored_weights"))]
    assert any("trained after pruning" in note for note in certificate.notes)


# Stopping and going on.


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ep.Potential]:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    return folder, run(folder)


def assert_same_run(folder: Path, after: ep.Potential, whole: tuple[Path, ep.Potential]) -> None:
    """Weights, average, optimizer and curve, bit for bit; only the clock may differ."""
    assert_same_weights(after, whole[1])
    assert after.checkpoint.history == whole[1].checkpoint.history
    for weights in ("model/weights.safetensors", "last/weights.safetensors"):
        assert (folder / weights).read_bytes() == (whole[0] / weights).read_bytes()
    found, expected = (torch.load(path / "state.pt", weights_only=True) for path in (folder, whole[0]))
    for state in (found, expected):
        del state["state"]["seconds"], state["state"]["recorded"]
    assert_identical(found, expected)
    assert rows(folder) == rows(whole[0])
    assert {path.name for path in folder.iterdir()} == {"recipe.json", "state.pt", "curve.csv", "model", "last"}


def assert_identical(a: Any, b: Any, where: str = "") -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_identical(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def test_a_line_for_every_step_and_validations_at_the_end_of_epochs(uninterrupted: tuple[Path, ep.Potential]) -> None:
    lines = rows(uninterrupted[0])
    assert [int(line["step"]) for line in lines] == list(range(1, 13))
    assert [int(line["epoch"]) for line in lines] == [0] * 4 + [1] * 4 + [2] * 4
    assert [i + 1 for i, line in enumerate(lines) if line["validation_forces"]] == [4, 8, 12]
    assert all(float(line[f"train_{name}"]) > 0 for line in lines for name in ("energy", "forces", "stress"))
    rates = [float(line["learning_rate"]) for line in lines]
    assert rates[:5] == pytest.approx([0.006, 0.012, 0.018, 0.024, 0.03])
    with (uninterrupted[0] / "curve.csv").open() as stream:
        seconds = [float(line["seconds"]) for line in csv.DictReader(stream)]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("after", [1, 3, 6, 11])
def test_a_run_that_was_stopped_ends_in_the_same_bits(
    after: int, number: int, tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]
) -> None:
    """The step in progress is finished: in the middle of an epoch, and the last one of an epoch and of all."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(StoppedError, match=f"Interrupted after step {after + 1}; the same command goes on"):
        run(tmp_path / "run", progress=signalled(after, number))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert [int(row["step"]) for row in rows(tmp_path / "run")] == list(range(1, after + 2))
    assert not (tmp_path / "run" / "model").exists()
    done: list[int] = []
    assert_same_run(tmp_path / "run", run(tmp_path / "run", progress=done.append), uninterrupted)
    assert done == [after + 1, *[1] * (11 - after)]


def test_a_run_that_is_stopped_after_every_step_ends_in_the_same_bits(
    tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]
) -> None:
    for _ in range(11):  # the first time two steps are done, then one each time, the last of them the twelfth
        with pytest.raises(StoppedError):
            run(tmp_path / "run", progress=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert_same_run(tmp_path / "run", run(tmp_path / "run"), uninterrupted)


def killed(folder: Path, after: int) -> None:
    """A run in a process of its own that is gone after so many steps, without a chance to tidy up."""
    done = subprocess.run(
        [sys.executable, runs.__file__, str(folder), str(after)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_run_that_was_killed_ends_in_the_same_bits(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    """Between two saves: what was recorded after the last one is done, and recorded, again."""
    killed(tmp_path / "run", 7)
    assert len(rows(tmp_path / "run")) == 7
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["state"]["step"] == 6
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "run", copy)
    with (copy / "curve.csv").open("a") as stream:
        stream.write("8,1,0.1")  # half a line
    before_first_save = tmp_path / "before"
    shutil.copytree(tmp_path / "run", before_first_save)
    (before_first_save / "state.pt").unlink()
    for folder in (tmp_path / "run", copy, before_first_save):
        assert_same_run(folder, run(folder), uninterrupted)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted[0], folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert_same_weights(run(folder), uninterrupted[1])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_how_often_the_state_is_saved_changes_nothing(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    after = run(tmp_path / "run", replace(RECIPE, save_every=1))
    assert_same_run(tmp_path / "run", after, uninterrupted)


def test_the_seed_decides_the_order(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    other = run(tmp_path / "run", replace(RECIPE, seed=1))
    assert not torch.equal(weights_of(other)["embedding_weight"], weights_of(uninterrupted[1])["embedding_weight"])


def test_two_do_not_train_in_one_folder(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    """As when a pipeline was killed, its training was not, and the same command is repeated."""
    said = []

    def again(_: int) -> None:
        before = contents(tmp_path)
        with pytest.raises(OutputError, match="Another process trains in") as refusal:
            run(tmp_path / "run")
        said.append(str(refusal.value))
        assert contents(tmp_path) == before

    assert_same_run(tmp_path / "run", run(tmp_path / "run", progress=again), uninterrupted)
    assert len(said) == 12


def test_a_thread_can_train(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    """Python lets only the main thread handle signals."""
    results: list[ep.Potential] = []
    thread = threading.Thread(target=lambda: results.append(run(tmp_path / "run")))
    thread.start()
    thread.join()
    assert_same_weights(results[0], uninterrupted[1])


def test_patience_ends_a_run_and_going_on_does_not_begin_it_again(tmp_path: Path) -> None:
    """A learning rate that changes no number: every validation after the first is one without progress."""
    recipe = Recipe(SQUARES, plain(learning_rate=1e-30), epochs=9, batch_size=4, patience=1)
    after = run(tmp_path / "run", recipe)
    assert [row["epoch"] for row in rows(tmp_path / "run") if row["validation_forces"]] == ["0", "1", "2"]
    assert after.checkpoint.history[-1]["steps"] == 6
    assert_same_weights(run(tmp_path / "run", recipe), after)
    assert len(rows(tmp_path / "run")) == 6


def test_with_progress_patience_does_not_run_out(tmp_path: Path) -> None:
    recipe = Recipe(SQUARES, plain(learning_rate=1e-4), epochs=4, batch_size=4, patience=0)
    run(tmp_path / "run", recipe)
    assert len(rows(tmp_path / "run")) == 8


# Refusals.


@contextmanager
def refused(folder: Path, error: type[EquipruneError], *says: str) -> Iterator[None]:
    """One message with all of the words, and not a byte in the folder changed."""
    before = contents(folder)
    with pytest.raises(error) as refusal:
        yield
    for word in says:
        assert word in str(refusal.value)
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run of `RECIPE` stopped in the middle."""
    with pytest.raises(StoppedError):
        run(tmp_path / "run", progress=signalled(5, signal.SIGTERM))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("differs", "changes"),
    [
        ("recipe.epochs", {"recipe": replace(RECIPE, epochs=4)}),
        ("recipe.batch_size", {"recipe": replace(RECIPE, batch_size=4)}),
        ("recipe.seed", {"recipe": replace(RECIPE, seed=3)}),
        ("recipe.patience", {"recipe": replace(RECIPE, patience=3)}),
        ("recipe.objective.forces.weight", {"recipe": replace(RECIPE, objective=mace_universal(forces=5.0))}),
        ("recipe.objective.energy.distance", {"recipe": replace(RECIPE, objective=mace_universal(delta=0.1))}),
        (
            "recipe.optimisation.learning_rate",
            {"recipe": replace(RECIPE, optimisation=replace(RECIPE.optimisation, learning_rate=1e-4))},
        ),
        (
            "recipe.optimisation.schedule",
            {"recipe": replace(RECIPE, optimisation=replace(RECIPE.optimisation, schedule=Constant()))},
        ),
        (
            "recipe.optimisation.rates",
            {"recipe": replace(RECIPE, optimisation=replace(RECIPE.optimisation, rates={}))},
        ),
        ("structures", {"structures": labelled()[:7]}),
        ("structures", {"structures": labelled(2)}),
        ("validation", {"validation": labelled(2)[:4]}),
        ("validation", {"validation": ()}),
        ("data", {"fingerprints": {"data": "1234"}}),
        ("weights", {"potential": moved(student(), "readout_weight", 0, 1e-9)}),
        ("dtype", {"potential": student().to(torch.float32)}),
    ],
)
def test_another_run_is_not_gone_on_with(differs: str, changes: dict[str, Any], stopped: Path) -> None:
    with refused(stopped, OutputError, str(stopped), "other settings", differs, "choose another folder"):
        run(stopped, **changes)


def test_another_head_is_not_gone_on_with(tmp_path: Path) -> None:
    architecture = replace(student().architecture, heads=("PBE", "r2SCAN"))
    checkpoint = replace(student().checkpoint, architecture=architecture)
    one, other = (ep.Potential.create(student().adapter, checkpoint, torch.float64, head) for head in ("PBE", "r2SCAN"))
    run(tmp_path / "run", replace(RECIPE, epochs=1), potential=one)
    with refused(tmp_path, OutputError, "(different: head)"):
        run(tmp_path / "run", replace(RECIPE, epochs=1), potential=other)


def test_only_what_differs_is_named(stopped: Path) -> None:
    with refused(stopped, OutputError, "(different: recipe.epochs, recipe.seed)"):
        run(stopped, replace(RECIPE, epochs=4, seed=1))


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_state_is_refused(content: bytes | None, stopped: Path) -> None:
    path = stopped / "state.pt"
    path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
    with refused(stopped, CheckpointError, str(path), "damaged", "Remove it"):
        run(stopped)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_damaged_description_is_refused(text: str, stopped: Path) -> None:
    (stopped / "recipe.json").write_text(text)
    with refused(stopped, EquipruneError, str(stopped)):
        run(stopped)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    ep.save(parent(), folder / "model")
    with refused(tmp_path, OutputError, str(folder), "holds model", "Choose another folder"):
        run(folder)


def test_an_empty_folder_will_do(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    (tmp_path / "run").mkdir()
    assert_same_run(tmp_path / "run", run(tmp_path / "run"), uninterrupted)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for folder in (Path("/proc/run"), tmp_path / "file", tmp_path / "file" / "run"):
        with refused(tmp_path, OutputError, str(folder), "cannot be written"):
            run(folder)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to write more into any file: a real failure in the middle of writing, for root too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("size", "file", "says"), [(100, "recipe.json", "Nothing was changed"), (3000, "state.pt", "Nothing was changed")]
)
def test_a_write_that_really_fails_is_a_message_and_the_run_goes_on_later(
    size: int, file: str, says: str, tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]
) -> None:
    with files_of_at_most(size), pytest.raises(OutputError) as refusal:
        run(tmp_path / "run")
    for word in (str(tmp_path / "run" / file), "could not be written", "File too large", says):
        assert word in str(refusal.value)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    assert_same_run(tmp_path / "run", run(tmp_path / "run"), uninterrupted)


def test_a_curve_that_cannot_be_written_is_a_message_and_the_run_goes_on_later(
    tmp_path: Path, uninterrupted: tuple[Path, ep.Potential], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fifth line fills the disk when half of it is written."""
    original, lines = csv.DictWriter.writerow, 0

    def full(writer: Any, row: dict[str, Any]) -> Any:
        nonlocal lines
        lines += 1
        if lines < 5:
            return original(writer, row)
        original(writer, dict.fromkeys(row, 7))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(csv.DictWriter, "writerow", full)
    with pytest.raises(OutputError, match="No space left") as refusal:
        run(tmp_path / "run")
    monkeypatch.undo()
    assert str(tmp_path / "run" / "curve.csv") in str(refusal.value)
    assert_same_run(tmp_path / "run", run(tmp_path / "run"), uninterrupted)


def test_a_full_disk_keeps_the_state_there_was(
    stopped: Path, uninterrupted: tuple[Path, ep.Potential], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as stream:
            stream.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    before = (stopped / "state.pt").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="the disk is full"):
        run(stopped)
    monkeypatch.undo()
    assert (stopped / "state.pt").read_bytes() == before
    assert_same_run(stopped, run(stopped), uninterrupted)


# Divergence.


def carbon() -> Atoms:
    """A molecule that no other structure has the formula of."""
    return vacuum(Atoms("C3", positions=[[0, 0, 0], [1.3, 0.1, 0], [0.2, 1.4, 0]]))


def test_divergence_names_the_structures(tmp_path: Path) -> None:
    recipe = Recipe(mace_weighted(), plain(learning_rate=1e200), epochs=2, batch_size=8)
    with pytest.raises(StructureError, match="Training has diverged: the predictions for") as refusal:
        run(tmp_path / "run", recipe, validation=())
    assert all(atoms.get_chemical_formula() in str(refusal.value) for atoms in labelled())
    assert "Lower the learning rate" in str(refusal.value)


def test_divergence_that_shows_in_validation_names_the_structure(tmp_path: Path) -> None:
    recipe = Recipe(mace_weighted(), plain(learning_rate=1e200), epochs=2, batch_size=8)
    with pytest.raises(StructureError, match="Training has diverged: the predictions for C3 are not finite"):
        run(tmp_path / "run", recipe, validation=[carbon()])


def test_one_bad_structure_of_many_is_named_alone(tmp_path: Path) -> None:
    start, recipe = moved(student(), "shift", 1, math.inf), Recipe(mace_weighted(), batch_size=9)  # carbon's energy
    with pytest.raises(StructureError, match="the predictions for C3 are not finite"):
        run(tmp_path / "run", recipe, potential=start, structures=[*labelled()[2:], carbon()], validation=())


@pytest.mark.parametrize("clip", [None, 10.0])
def test_a_gradient_that_is_not_finite_names_the_structures(clip: float | None, tmp_path: Path) -> None:
    """Predictions of 1e160 are finite, their squares and the gradient are not."""
    huge = moved(student(), "readout_weight", 0, 1e160)
    recipe = Recipe(mace_weighted(), plain(clip=clip), epochs=1, batch_size=8)
    with pytest.raises(StructureError, match="Training has diverged: the gradient for") as refusal:
        run(tmp_path / "run", recipe, potential=huge, structures=[carbon()], validation=())
    assert "C3" in str(refusal.value)
    assert not (tmp_path / "run" / "state.pt").exists()


# What makes no sense.


def test_patience_without_validation_is_refused(tmp_path: Path) -> None:
    with refused(tmp_path, TargetError, "Patience", "validation"):
        run(tmp_path / "run", replace(RECIPE, patience=1), validation=())


def test_validation_structures_need_labels_too(tmp_path: Path) -> None:
    bare = [Atoms(numbers=a.numbers, positions=a.positions, cell=a.cell, pbc=a.pbc) for a in labelled()[:2]]
    with refused(tmp_path, StructureError, "for validation", "label of its energy"):
        run(tmp_path / "run", validation=bare)


def test_a_pattern_that_matches_nothing_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    recipe = replace(RECIPE, optimisation=plain(rates={"readouts.*": 0.0}))
    with refused(tmp_path, TargetError, "'readouts.*'"):
        run(tmp_path / "run", recipe)


def test_a_masked_potential_is_refused(tmp_path: Path) -> None:
    """Or its parent would be trained in its place."""
    masked = ep.masked(parent(), ep.allocate(parent(), [ep.Lmax(0)]))
    with refused(tmp_path, TargetError, "masked potential"):
        run(tmp_path / "run", potential=masked)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("batch_size", 0), ("save_every", 0), ("patience", -1)])
def test_impossible_recipes_are_refused(name: str, value: int) -> None:
    with pytest.raises(TargetError, match=f"{name.replace('_', ' ')} {value} is not possible"):
        replace(RECIPE, **{name: value})
