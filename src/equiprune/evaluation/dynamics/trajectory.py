"""The files of one model's dynamics, written part by part, so that it goes on where it was interrupted.

``frames.extxyz`` holds positions and momenta, ``steps.csv`` numbers of every step, ``state.json`` everything from which
dynamics goes on, and how many bytes of the others belong to it. Whatever follows those is of a part that was
interrupted, and is cut off. Copies that are moved together have one ``state.json``, so that they never come apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from equiprune.errors import CheckpointError, OutputError
from equiprune.evaluation.dynamics.crashes import Crash
from equiprune.evaluation.dynamics.protocol import Hidden
from equiprune.files.atomic import KEPT, make_folder, read_json, write_json, writing

FRAMES, STEPS, RECORD, LAST = "frames.extxyz", "steps.csv", "state.json", "last_good.extxyz"

COLUMNS = (
    "step",
    "time_ps",
    "potential_eV",
    "kinetic_eV",
    "temperature_K",
    "conserved_eV",
    "pressure_GPa",
    "volume_A3",
)
"""Columns of ``steps.csv``; what there is none of is empty."""


@dataclass(frozen=True, eq=False)
class State:
    """Everything from which dynamics goes on.

    Attributes:
        step: that it is after; production begins at 0.
        positions: (atoms, 3), Angstrom, never wrapped.
        momenta: (atoms, 3), in ASE's unit.
        cell: (3, 3), Angstrom.
        hidden: what the integrator knows besides.
    """

    step: int
    positions: np.ndarray
    momenta: np.ndarray
    cell: np.ndarray
    hidden: Hidden = field(default_factory=dict)

    @classmethod
    def of(cls, step: int, atoms: Atoms, hidden: Hidden) -> State:
        """The state of atoms."""
        return cls(step, atoms.get_positions(), atoms.get_momenta(), atoms.cell.array.copy(), hidden)

    def on(self, atoms: Atoms) -> Atoms:
        """A copy of the atoms in this state."""
        moved = atoms.copy()
        moved.set_cell(self.cell)
        moved.positions = self.positions
        moved.set_momenta(self.momenta)
        return moved

    def to_json(self) -> dict[str, Any]:
        """Numbers that are read back to the bit."""
        arrays = {name: getattr(self, name).tolist() for name in ("positions", "momenta", "cell")}
        return {"step": self.step, **arrays, "hidden": dict(self.hidden)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> State:
        """The state that `to_json` wrote."""
        places, momenta, cell = (np.array(value[name], dtype=float) for name in ("positions", "momenta", "cell"))
        return cls(int(value["step"]), places, momenta, cell, value["hidden"])


@dataclass(frozen=True, eq=False)
class Saved:
    """The whole part of the dynamics of one copy.

    Attributes:
        state: at its end.
        sizes: bytes of frames and steps.
        timed: steps of production that were timed.
        seconds: they took, without writing; of a batch, its share of them.
        crash: that ended dynamics, if one did.
    """

    state: State
    sizes: tuple[int, int] = (0, 0)
    timed: int = 0
    seconds: float = 0.0
    crash: Crash | None = None


@dataclass(frozen=True)
class Part:
    """Addition of one part to the dynamics of one copy.

    Attributes:
        state: at its end.
        rows: of ``steps.csv``, numbers in the order of `COLUMNS`.
        frames: atoms with momenta.
        seconds: it took; 0 where it is not to be timed.
        crash: that ended it.
    """

    state: State
    rows: Sequence[Sequence[float | None]] = ()
    frames: Sequence[Atoms] = ()
    seconds: float = 0.0
    crash: Crash | None = None


@dataclass(frozen=True)
class CopyFiles:
    """The files of one copy.

    Attributes:
        folder: that holds them.
    """

    folder: Path

    def begin(self) -> None:
        """Files without any step."""
        make_folder(self.folder, "the folder of dynamics")
        frames, steps = self._data
        frames.write_bytes(b"")
        steps.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")

    def append(self, part: Part) -> None:
        """Add a part behind what there is."""
        import ase.io  # slow to import, and only needed here

        frames, steps = self._data
        if part.frames:
            ase.io.write(frames, part.frames, format="extxyz", append=True)
        with steps.open("a", encoding="utf-8") as file:
            file.writelines(_line(row) for row in part.rows)

    def cut(self, sizes: tuple[int, int]) -> None:
        """Take away what follows the first bytes of both; raises `ValueError` where there are fewer."""
        for path, size in zip(self._data, sizes, strict=True):
            if path.stat().st_size < size:
                raise ValueError(f"{path.name} is too short")
            os.truncate(path, size)

    def keep_last(self, atoms: Atoms) -> None:
        """Write the last atoms that were sound."""
        import ase.io

        with writing(self.folder, KEPT):
            ase.io.write(self.folder / LAST, atoms, format="extxyz")

    def frames(self) -> list[Atoms]:
        """All frames, with momenta; they are not periodic where the structure is not."""
        import ase.io

        return ase.io.read(self.folder / FRAMES, ":", format="extxyz") if self.sizes[0] else []

    def steps(self) -> dict[str, np.ndarray]:
        """Numbers of every step of production (steps,) by column, NaN where there are none."""
        lines = (self.folder / STEPS).read_text(encoding="utf-8").splitlines()[1:]
        rows = [[float(number or "nan") for number in line.split(",")] for line in lines]
        found = np.array(rows, dtype=float).reshape(-1, len(COLUMNS))
        return {name: found[:, i] for i, name in enumerate(COLUMNS)}

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of frames and steps."""
        frames, steps = (path.stat().st_size for path in self._data)
        return frames, steps

    @property
    def _data(self) -> tuple[Path, Path]:
        return self.folder / FRAMES, self.folder / STEPS


@dataclass(frozen=True)
class TrajectoryFiles:
    """The files of dynamics that goes on from one record.

    Attributes:
        folder: of the record, made where there is none.
        names: folders in it, one for each copy that is moved with the others; of a single one, the folder itself.
    """

    folder: Path
    names: tuple[str, ...] = (".",)

    @property
    def copies(self) -> Sequence[CopyFiles]:
        """Files of every copy."""
        return [CopyFiles(self.folder / name) for name in self.names]

    def saved(self) -> list[Saved] | None:
        """The whole part of every copy, after which its files end; None if nothing was begun.

        Raises:
            OutputError: files are damaged.
        """
        if not (self.folder / RECORD).exists():
            return None
        try:
            found = [_read(record) for record in read_json(self.folder / RECORD, "state of dynamics")["copies"]]
            for files, each in zip(self.copies, found, strict=True):
                files.cut(each.sizes)
        except (CheckpointError, OSError, KeyError, TypeError, ValueError) as error:
            raise OutputError(
                f"'{self.folder}' is damaged ({error}). Remove it to start anew, or choose another output."
            ) from error
        return found

    def begin(self, states: Sequence[State]) -> list[Saved]:
        """Files without any step.

        Raises:
            OutputError: they cannot be written.
        """
        make_folder(self.folder, "the folder of dynamics")
        with writing(self.folder, KEPT):
            for files in self.copies:
                files.begin()
        return self._save([Saved(*each) for each in zip(states, (own.sizes for own in self.copies), strict=True)])

    def append(self, parts: Mapping[int, Part], after: Sequence[Saved]) -> list[Saved]:
        """Add parts of copies, by their places, behind what there is; what there is then.

        Raises:
            OutputError: the disk is full, or the files cannot be written.
        """
        whole = list(after)
        for number, part in parts.items():
            files = self.copies[number]
            with writing(files.folder, KEPT):
                files.append(part)
            whole[number] = _joined(after[number], part, files.sizes)
        return self._save(whole)

    def _save(self, whole: list[Saved]) -> list[Saved]:
        write_json(self.folder / RECORD, {"copies": [_record(saved) for saved in whole]})
        return whole


def _joined(before: Saved, part: Part, sizes: tuple[int, int]) -> Saved:
    timed = before.timed + (len(part.rows) if part.seconds else 0)
    return Saved(part.state, sizes, timed, before.seconds + part.seconds, part.crash)


def _record(saved: Saved) -> dict[str, Any]:
    return {
        "state": saved.state.to_json(),
        "sizes": saved.sizes,
        "timed": saved.timed,
        "seconds": saved.seconds,
        "crash": saved.crash and saved.crash.to_json(),
    }


def _read(record: Mapping[str, Any]) -> Saved:
    """The value that `_record` wrote."""
    crash = Crash.from_json(record["crash"]) if record["crash"] else None
    sizes = (int(record["sizes"][0]), int(record["sizes"][1]))
    return Saved(State.from_json(record["state"]), sizes, record["timed"], record["seconds"], crash)


def _line(row: Sequence[float | None]) -> str:
    return ",".join("" if number is None else repr(number) for number in row) + "\n"
