"""Who watches a run sees every step once, however it was stopped; the picture and the dashboards follow the curve."""

import pickle
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import Run
from runs import RECIPE, rows, run

import equiprune as ep
from equiprune.training import observers as curve_figure
from equiprune.training.observers import CurvePicture, Observer, Row, TensorBoard, Wandb, numbers, plot_curve
from equiprune.training.run_folder import RunFolder

STEPS = list(range(1, 13))
"""Of the run that `runs.run` trains."""


@dataclass
class Notebook(Observer):
    """Remembers what it was told."""

    seen: list[Row] = field(default_factory=list)
    closed: int = 0

    def begin(self, rows: Iterable[Row]) -> None:
        self.seen = list(rows)

    def add(self, row: Row) -> None:
        self.seen.append(row)

    def close(self) -> None:
        self.closed += 1


class PowerCutError(Exception):
    """Nothing catches it: what was not saved is lost."""


def cut(after: int) -> Any:
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if done == after:
            raise PowerCutError

    return step


def cut_and_resumed(folder: Path, make: Any) -> None:
    """Lose step 5, which the state of step 4 does not have, and go on."""
    with pytest.raises(PowerCutError):
        run(folder, progress=cut(5), observers=[make()])
    run(folder, observers=[make()])


@pytest.mark.slow
def test_an_observer_is_told_what_the_curve_says_once(tmp_path: Path) -> None:
    books: list[Notebook] = []

    def another() -> Notebook:
        books.append(Notebook())
        return books[-1]

    cut_and_resumed(tmp_path / "run", another)
    assert [book.closed for book in books] == [1, 1]
    assert [row["step"] for row in books[0].seen] == STEPS[:5]
    told = [{k: v for k, v in row.items() if k != "seconds"} for row in books[1].seen]
    assert told == [numbers(row) for row in rows(tmp_path / "run")]
    assert [row["step"] for row in told] == STEPS


@pytest.mark.slow
def test_watching_changes_no_weight(tmp_path: Path) -> None:
    plain, watched = run(tmp_path / "a"), run(tmp_path / "b", observers=[Notebook()])
    assert all((plain.checkpoint.weights[n] == w).all() for n, w in watched.checkpoint.weights.items())


# The picture.


@pytest.mark.slow
def test_a_picture_is_left_at_the_end_and_when_interrupted(tmp_path: Path) -> None:
    with pytest.raises(PowerCutError):
        run(tmp_path / "run", progress=cut(5), observers=[CurvePicture(tmp_path / "run")])
    picture = tmp_path / "run" / "curve.png"
    first = picture.read_bytes()
    assert first.startswith(b"\x89PNG")
    run(tmp_path / "run", observers=[CurvePicture(tmp_path / "run")])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.read_bytes() != first
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "curve.csv",
        "curve.png",
        "last",
        "model",
        "recipe.json",
        "state.pt",
    ]


@pytest.mark.slow
def test_the_picture_shows_the_quantities_there_are(tmp_path: Path) -> None:
    row = {"step": 1.0, "epoch": 0.0, "learning_rate": 0.0, "train_energy": 0.0}
    plot_curve([row, row | {"step": 2.0, "validation_energy": 1.0}], tmp_path / "curve.svg")
    text = (tmp_path / "curve.svg").read_text()
    assert all(f"<!-- {word} -->" in text for word in ("energy", "validation", "learning rate"))
    assert "<!-- forces -->" not in text


@pytest.fixture
def long_run(tmp_path: Path) -> Path:
    """A curve of 9001 steps with a validation every 300, and half a line."""
    with (tmp_path / "curve.csv").open("w") as stream:
        stream.write("step,epoch,learning_rate,train_energy,validation_energy\n")
        stream.writelines(f"{i},0,1.0,0.5,{0.25 if i % 300 == 7 else ''}\n" for i in range(9001))
        stream.write("9001,0,1.0")
    return tmp_path


def test_a_long_curve_is_drawn_from_its_file_by_some_of_its_points(
    long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Row] = []
    monkeypatch.setattr(curve_figure, "plot_curve", lambda rows, path: drawn.extend(rows))
    picture = CurvePicture(long_run)
    picture.begin(())
    kept = pickle.dumps(picture)
    for i in range(100):
        picture.add({"step": float(i), "train_energy": 0.5})
    assert pickle.dumps(picture) == kept  # it remembers nothing
    picture.close()
    validated = [row["step"] for row in drawn if "validation_energy" in row]
    assert validated == [float(i) for i in range(9001) if i % 300 == 7]
    assert curve_figure.POINTS / 2 < len(drawn) <= curve_figure.POINTS + len(validated)
    assert [row["step"] for row in drawn] == sorted({row["step"] for row in drawn})
    assert drawn[0]["step"] == 0
    assert drawn[-1]["step"] > 9001 - 10


def test_who_watches_is_given_the_curve_line_by_line(long_run: Path) -> None:
    """So that nobody has to hold it."""
    rows = RunFolder(long_run).rows()
    assert isinstance(rows, Iterator)
    assert sum(1 for _ in rows) == 9001


# TensorBoard.


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=False).Reload()
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


@pytest.mark.slow
def test_tensorboard_has_every_step_once(tmp_path: Path) -> None:
    cut_and_resumed(tmp_path / "run", lambda: TensorBoard(tmp_path / "run"))
    shown, curve = scalars(tmp_path / "run" / "tensorboard"), rows(tmp_path / "run")
    expected = [(int(row["step"]), pytest.approx(float(row["train_forces"]))) for row in curve]
    assert shown["train/forces"] == expected
    assert [step for step, _ in shown["validation/energy"]] == [4, 8, 12]
    assert {"learning_rate", "epoch"} < shown.keys()


@pytest.mark.slow
def test_tensorboard_is_a_flag_of_train(cli: Run, xyz: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.xyz"
    assert cli("label", "toy", xyz, "-o", labelled).code == 0
    ran = cli("train", "toy", "--data", labelled, "-o", tmp_path / "run", "--epochs", 1, "--tensorboard")
    assert ran.code == 0, ran.err
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    assert str(tmp_path / "run" / "curve.png") in ran.out


@pytest.mark.parametrize(("package", "flags"), [("tensorboard", ["--tensorboard"]), ("wandb", ["--wandb", "paper"])])
def test_a_missing_package_is_named_before_any_work(
    package: str, flags: list[str], refused: Run, xyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    words = ["train", "toy", "--data", xyz, "-o", tmp_path / "run", *flags]
    refused(*words, says=(flags[0], f"pip install 'equiprune[{package}]'"))


# Weights & Biases.


class Service:
    """As much of wandb as a run uses: ``step`` is what comes next, known again when a run is resumed online."""

    __spec__ = SimpleNamespace(name="wandb")

    def __init__(self, *, offline: bool = False) -> None:
        self.offline, self.runs, self.settings = offline, {}, {}

    def init(self, **settings: Any) -> Any:
        logged = self.runs.setdefault(settings["id"], [])
        self.settings = settings
        handle = SimpleNamespace(step=0 if self.offline or not logged else logged[-1][0] + 1, finished=False)

        def log(values: Mapping[str, float], step: int) -> None:
            handle.step = step
            logged.append((step, values))

        handle.log, handle.finish = log, lambda: None
        return handle


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    fake = Service()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    return fake


@pytest.mark.slow
def test_wandb_gets_every_step_once(service: Service, tmp_path: Path) -> None:
    cut_and_resumed(tmp_path / "run", lambda: Wandb(tmp_path / "run", "paper"))
    [logged] = service.runs.values()  # one id however often it is resumed
    assert [step for step, _ in logged] == STEPS
    curve = rows(tmp_path / "run")
    assert [values["train/energy"] for _, values in logged] == [float(row["train_energy"]) for row in curve]
    assert service.settings["project"] == "paper"
    assert service.settings["dir"] == str(tmp_path / "run")


@pytest.mark.slow
def test_wandb_offline_is_given_the_whole_curve_again(service: Service, tmp_path: Path) -> None:
    service.offline = True
    cut_and_resumed(tmp_path / "run", lambda: Wandb(tmp_path / "run", "paper"))
    [logged] = service.runs.values()
    assert [step for step, _ in logged] == [*STEPS[:5], *STEPS]  # the second folder is whole


def test_wandb_that_does_not_start_says_what_to_do(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise RuntimeError("api_key not configured")

    monkeypatch.setattr(service, "init", init)
    with pytest.raises(ep.EquipruneError, match=r"api_key not configured.*WANDB_MODE=offline"):
        run(tmp_path / "run", RECIPE, observers=[Wandb(tmp_path / "run", "paper")])
