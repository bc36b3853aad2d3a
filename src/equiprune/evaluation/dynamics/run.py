"""The dynamics of one model, part after part; a part depends on the state it begins with and on nothing else.

That is why dynamics that was killed anywhere and begun again ends in the same bits: every part begins from a saved
state, whether or not there was an interruption. What is moved together begins and ends a part together: where one copy
crashes, the part ends for all, and the others go on from there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from equiprune.errors import StructureError
from equiprune.evaluation.dynamics.crashes import Cause, Crash, Soundness, UnsoundError, temperature
from equiprune.evaluation.dynamics.engines import Engine, Moment, Moving
from equiprune.evaluation.dynamics.protocol import DynamicsProtocol, without_drift
from equiprune.evaluation.dynamics.trajectory import CopyFiles, Part, Saved, State, TrajectoryFiles
from equiprune.progress import Progress, silent

PART = 20
"""Steps of a part, after which everything is saved."""
_REST, _RELAXING = 0.05, 200
"""eV/Angstrom and steps at which a relaxation before dynamics ends."""

_BROKEN = (StructureError, ArithmeticError, ValueError)
"""Errors of calculators that are given atoms which are no structure any more."""


@dataclass(frozen=True)
class Run:
    """Dynamics of copies of a structure that one model moves together; of one, unless an engine moves more.

    Attributes:
        start: the structure, without a calculator.
        protocol: what is done with it.
        files: that it goes to.
        engine: the program that moves the atoms.
        first: number of the first copy, by which random numbers are drawn; the others follow.
    """

    start: Atoms
    protocol: DynamicsProtocol
    files: TrajectoryFiles
    engine: Engine
    first: int = 0

    def finish(self, calculator: Calculator, progress: Progress = silent) -> list[Saved]:
        """Go on to the end of every copy, or to its crash; what is there is kept.

        Args:
            calculator: the model.
            progress: called with the number of steps, those of an interrupted attempt first.

        Raises:
            OutputError: files are damaged or cannot be written.
            EquipruneError: the calculator cannot evaluate the structure.
        """
        _check_forces(self._with(calculator, self.start))
        saved = self.files.saved() or self._begun(calculator)
        soundness = Soundness.of(self.start, self.protocol.temperature)
        done = len(saved) * self.protocol.first
        while True:
            progress(_steps(saved) - done)
            done = _steps(saved)
            going = {number: each.state for number, each in enumerate(saved) if self._goes_on(each)}
            if not going:
                return saved
            saved = self.files.append(self._parts(calculator, going, soundness), saved)

    def _goes_on(self, saved: Saved) -> bool:
        return saved.state.step < self.protocol.steps and saved.crash is None

    def _begun(self, calculator: Calculator) -> list[Saved]:
        protocol, atoms = self.protocol, self._with(calculator, self.start)
        crash = None
        if protocol.relax:
            try:
                _relax(atoms)
            except _BROKEN as error:
                crash = self._crash(UnsoundError(Cause.FAILED, f"the relaxation failed: {error}"), protocol.first)
        states = []
        for number in range(len(self.files.copies)):
            atoms.set_momenta(protocol.velocities(atoms, self.first + number))
            states.append(State.of(protocol.first, atoms, {}))
        saved = self.files.begin(states)
        parts = {number: Part(state, crash=crash) for number, state in enumerate(states)}
        return saved if crash is None else self.files.append(parts, saved)

    def _parts(self, calculator: Calculator, states: Mapping[int, State], soundness: Soundness) -> dict[int, Part]:
        """The steps of copies from their states, all of the same step, to the end of a part or the first crash."""
        step = next(iter(states.values())).step
        ensemble, moving = self.protocol.phase(step), [self._moving(calculator, *each) for each in states.items()]
        moments = self.engine.batches(moving, ensemble)
        last = min((step // PART + 1) * PART, 0 if step < 0 else self.protocol.steps)
        sound: list[Sequence[Moment]] = []
        ends: dict[int, UnsoundError] = {}
        began = time.perf_counter()
        with np.errstate(all="ignore"):  # every moment is looked at
            while not ends and len(sound) < last - step:
                try:
                    reached = next(moments)
                    ends = _unsound(reached, soundness, ensemble.freedom(self.start))
                except _BROKEN as error:
                    ends = self._broken(calculator, moving, error)
                if not ends:
                    sound.append(reached)
        seconds = (time.perf_counter() - began) / len(states)
        return {
            number: self._part(
                self.files.copies[number], state, [each[place] for each in sound], seconds, ends.get(place)
            )
            for place, (number, state) in enumerate(states.items())
        }

    def _moving(self, calculator: Calculator, number: int, state: State) -> Moving:
        conditions = self.protocol.conditions(state.step, self.first + number)
        return Moving(self._with(calculator, state.on(self.start)), conditions, state.hidden)

    def _broken(self, calculator: Calculator, moving: Sequence[Moving], error: Exception) -> dict[int, UnsoundError]:
        """The end of those copies, by place, that the model fails for; of all, if it fails for none of them alone."""
        lost = [place for place, each in enumerate(moving) if not np.isfinite(each.atoms.positions).all()]
        if lost:
            return dict.fromkeys(lost, UnsoundError(Cause.NOT_FINITE, "positions are not finite numbers"))
        alone = [_failure(self._with(calculator, each.atoms)) for each in moving] if len(moving) > 1 else [error]
        failed = {place: own for place, own in enumerate(alone) if own} or dict.fromkeys(range(len(moving)), error)
        return {place: UnsoundError(Cause.FAILED, f"the model failed: {own}") for place, own in failed.items()}

    def _part(
        self, files: CopyFiles, state: State, sound: Sequence[Moment], seconds: float, end: UnsoundError | None
    ) -> Part:
        """Addition of a part to a copy, from its sound moments."""
        step = state.step + len(sound)
        crash = self._crash(end, step + 1) if end else None
        if crash:
            files.keep_last(sound[-1].atoms if sound else state.on(self.start))
        after = State.of(step, sound[-1].atoms, sound[-1].hidden) if sound else state
        if state.step < 0 and step == 0:  # production begins afresh
            after = replace(after, momenta=without_drift(after.momenta, self.start.get_masses()), hidden={})
        if state.step < 0:
            return Part(after, crash=crash)
        numbered = list(enumerate(sound, state.step + 1))
        rows = [self._row(number, each) for number, each in numbered]
        frames = [self._frame(number, each) for number, each in numbered if number % self.protocol.interval == 0]
        return Part(after, rows, frames, seconds, crash)

    def _row(self, step: int, moment: Moment) -> list[float | None]:
        kelvin = temperature(moment.kinetic, self.protocol.ensemble.freedom(self.start))
        volume = float(moment.atoms.cell.volume) if moment.atoms.cell.rank == 3 else None
        energies = [moment.potential, moment.kinetic, kelvin, moment.conserved, moment.pressure]
        return [step, self.protocol.picoseconds(step), *energies, volume]

    def _frame(self, step: int, moment: Moment) -> Atoms:
        frame = moment.atoms.copy()
        frame.info = {"step": step, "time_ps": self.protocol.picoseconds(step)}
        return frame

    def _crash(self, end: UnsoundError, step: int) -> Crash:
        return Crash(end.cause, str(end), step, self.protocol.picoseconds(step))

    @staticmethod
    def _with(calculator: Calculator, atoms: Atoms) -> Atoms:
        moving = atoms.copy()
        moving.calc = calculator
        return moving


def _steps(saved: Sequence[Saved]) -> int:
    return sum(each.state.step for each in saved)


def _unsound(moments: Sequence[Moment], soundness: Soundness, freedom: int) -> dict[int, UnsoundError]:
    """The end of those copies, by place, that are not sound any more."""
    ends = {}
    for place, moment in enumerate(moments):
        try:
            soundness.check(moment, freedom)
        except UnsoundError as end:
            ends[place] = end
    return ends


def _failure(atoms: Atoms) -> Exception | None:
    """The error of a calculator that is given these atoms."""
    try:
        atoms.get_forces()
    except _BROKEN as error:
        return error
    return None


def _check_forces(atoms: Atoms) -> None:
    """Raise `StructureError` unless the calculator gives numbers."""
    if not np.isfinite(atoms.get_forces()).all():
        raise StructureError("The model gives forces that are not finite numbers at the start. Check the model.")


def _relax(atoms: Atoms) -> None:
    from ase.optimize import FIRE  # slow to import, and only needed here

    FIRE(atoms, logfile=None).run(_REST, steps=_RELAXING)
