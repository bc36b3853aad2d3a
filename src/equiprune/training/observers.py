"""Learning curves for other people's dashboards.

``curve.csv`` is the truth, and a dashboard is its copy: whoever watches a run is first given every line that was
recorded before, then each new one. A run that was killed and resumed therefore shows every step once, and a dashboard
can be added to a run that has already begun.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from equiprune.errors import EquipruneError
from equiprune.files.atomic import replacing, write_text
from equiprune.training.objective import TERMS
from equiprune.training.run_folder import RunFolder

Row = Mapping[str, float]
"""A line of the learning curve: its columns that have a number."""


class Observer(ABC):
    """A listener to a run, in the first process only."""

    @abstractmethod
    def begin(self, rows: Iterable[Row]) -> None:
        """The run begins, or goes on after these lines, which are read from its folder as they are asked for."""

    @abstractmethod
    def add(self, row: Row) -> None:
        """A line was recorded."""

    @abstractmethod
    def close(self) -> None:
        """The run has ended or was interrupted."""


@contextmanager
def watching(observers: Sequence[Observer], folder: RunFolder) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A callback for every recorded line; on leaving, also by an error, the observers are closed."""
    with ExitStack() as ending:
        for observer in observers:
            observer.begin(map(numbers, folder.rows()))
            ending.callback(observer.close)

        def tell(row: Mapping[str, Any]) -> None:
            for observer in observers:
                observer.add(numbers(row))

        yield tell


def numbers(row: Mapping[str, Any]) -> Row:
    """The columns of a line that have a number.

    >>> numbers({"step": "3", "train_energy": 0.5, "validation_energy": ""})
    {'step': 3.0, 'train_energy': 0.5}
    """
    return {name: float(value) for name, value in row.items() if value != ""}


class TensorBoard(Observer):
    """Event files in ``tensorboard`` inside the run, written anew from the curve whenever the run goes on.

    Raises:
        EquipruneError: the package tensorboard is not installed.
    """

    def __init__(self, run: Path) -> None:
        if find_spec("tensorboard") is None:
            raise EquipruneError("`tensorboard` needs the package tensorboard: pip install 'equiprune[tensorboard]'.")
        self.folder = run / "tensorboard"

    def begin(self, rows: Iterable[Row]) -> None:
        from lightning_fabric.loggers import TensorBoardLogger  # slow to import, and only dashboards need it

        for events in self.folder.glob("events.out.tfevents.*"):
            events.unlink()
        self.logger = TensorBoardLogger(self.folder, name="", version="")
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        self.logger.log_metrics(_measured(row), step=int(row["step"]))

    def close(self) -> None:
        self.logger.finalize("finished")


class Wandb(Observer):
    """A run on Weights & Biases, the same one however often the training is resumed.

    Its id is kept in ``wandb-id`` inside the run. Steps that the service has already are not sent again; where nobody
    knows what it has (``WANDB_MODE=offline``), all are.

    Raises:
        EquipruneError: the package wandb is not installed, or refuses to start.
    """

    def __init__(self, run: Path, project: str) -> None:
        if find_spec("wandb") is None:
            raise EquipruneError("`wandb` needs the package wandb: pip install 'equiprune[wandb]'.")
        self.folder, self.project = run, project

    def begin(self, rows: Iterable[Row]) -> None:
        import wandb

        settings = {"project": self.project, "id": self._id(), "name": self.folder.name, "dir": str(self.folder)}
        try:
            self.run = wandb.init(**settings, resume="allow")
        except Exception as error:  # the client has many, also for no network and no key
            raise EquipruneError(
                f"Weights & Biases did not start ({error}). Log in with 'wandb login', or set WANDB_MODE=offline."
            ) from error
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        if row["step"] >= self.run.step:
            self.run.log(_measured(row), step=int(row["step"]))

    def close(self) -> None:
        self.run.finish()

    def _id(self) -> str:
        path = self.folder / "wandb-id"
        if not path.exists():
            write_text(path, secrets.token_hex(4))
        return path.read_text()


def _measured(row: Row) -> dict[str, float]:
    """Values that a dashboard draws against the step, grouped: ``train/energy``."""
    losses = {k.replace("_", "/", 1): v for k, v in row.items() if k.startswith(("train_", "validation_"))}
    return {**losses, "epoch": row["epoch"], "learning_rate": row["learning_rate"]}


_SMALLEST = 1e-12
"""Value at which a loss of exactly zero is drawn on a logarithmic axis."""


POINTS = 2000
"""A line is drawn with at most so many steps, besides those with a validation; a panel is 600 pixels wide."""


class CurvePicture(Observer):
    """``curve.png`` inside the run, drawn when it ends and when it is interrupted."""

    def __init__(self, run: str | Path) -> None:
        self.path, self.folder = Path(run) / "curve.png", RunFolder(Path(run))

    def begin(self, rows: Iterable[Row]) -> None:
        """Nothing: the curve is read when it is drawn."""

    def add(self, row: Row) -> None:
        """Nothing."""

    def close(self) -> None:
        lines = sum(1 for _ in self.folder.rows())
        if rows := list(thinned(map(numbers, self.folder.rows()), every=-(-lines // POINTS))):
            plot_curve(rows, self.path)


def thinned(rows: Iterable[Row], every: int) -> Iterator[Row]:
    """One of so many lines from the first one on, and all that have a validation.

    >>> [row["step"] for row in thinned(({"step": float(i)} for i in range(7)), every=3)]
    [0.0, 3.0, 6.0]
    """
    for i, row in enumerate(rows):
        if i % every == 0 or any(name.startswith("validation_") for name in row):
            yield row


def plot_curve(rows: Sequence[Row], path: Path) -> None:
    """One panel per quantity of the objective and one for the learning rate, against the step. PNG or SVG."""
    from matplotlib.figure import Figure  # slow to import, and only pictures need it

    quantities = [q for q in TERMS if any(f"train_{q}" in row for row in rows)]
    figure = Figure(figsize=(3.6 * (len(quantities) + 1), 3.2), layout="constrained")
    *panels, last = figure.subplots(1, len(quantities) + 1, squeeze=False)[0]
    for panel, quantity in zip(panels, quantities, strict=True):
        panel.semilogy(*_line(rows, f"train_{quantity}"), color="C0", lw=0.8, label="train")
        if any(f"validation_{quantity}" in row for row in rows):
            panel.semilogy(*_line(rows, f"validation_{quantity}"), "o-", color="C1", ms=3, lw=1.2, label="validation")
        panel.set(title=quantity, xlabel="step")
        panel.legend(fontsize=7, framealpha=0.5)
    last.semilogy(*_line(rows, "learning_rate"), color="C2", lw=1.2)
    last.set(title="learning rate", xlabel="step")
    (panels or [last])[0].set_ylabel("weighted loss" if panels else "")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160)


def _line(rows: Sequence[Row], column: str) -> tuple[list[float], list[float]]:
    """Steps and values of a column where it has any."""
    points = [(row["step"], max(row[column], _SMALLEST)) for row in rows if column in row]
    return [step for step, _ in points], [value for _, value in points]
