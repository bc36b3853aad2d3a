"""A picture of the learning curve, beside the numbers it is drawn from."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from equiprune.storage import replacing
from equiprune.training.objective import QUANTITIES
from equiprune.training.observers import Observer, Row, numbers
from equiprune.training.run_folder import RunFolder

_SMALLEST = 1e-12
"""Where a loss of exactly zero is drawn on a logarithmic axis."""

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

    quantities = [q for q in QUANTITIES if any(f"train_{q}" in row for row in rows)]
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
