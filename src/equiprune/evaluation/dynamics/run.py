"""The dynamics of one model, part after part; a part depends on the state it begins with and on nothing else.

That is why dynamics that was killed anywhere and begun again ends in the same bits: every part begins from a saved
state, whether or not there was an interruption.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from equiprune.errors import StructureError
from equiprune.evaluation.dynamics.crashes import Cause, Crash, Soundness, UnsoundError, temperature
from equiprune.evaluation.dynamics.engines import Engine, Moment
from equiprune.evaluation.dynamics.protocol import DynamicsProtocol, thermal_momenta, without_drift
from equiprune.evaluation.dynamics.trajectory import Part, Saved, State, TrajectoryFiles
from equiprune.progress import Progress, silent

PART = 20
"""Steps of a part, after which everything is saved."""
_REST, _RELAXING = 0.05, 200
"""eV/Angstrom and steps at which a relaxation before dynamics ends."""

_BROKEN = (StructureError, ArithmeticError, ValueError)
"""Errors of calculators that are given atoms which are no structure any more."""


@dataclass(frozen=True)
class Run:
    """Dynamics of one model.

    Attributes:
        start: the structure, without a calculator.
        protocol: what is done with it.
        files: that it goes to.
        engine: the program that moves the atoms.
    """

    start: Atoms
    protocol: DynamicsProtocol
    files: TrajectoryFiles
    engine: Engine

    def finish(self, calculator: Calculator, progress: Progress = silent) -> Saved:
        """Go on to the end, or to a crash; what is there is kept.

        Args:
            calculator: the model.
            progress: called with the number of steps, those of an interrupted attempt first.

        Raises:
            OutputError: files are damaged or cannot be written.
            EquipruneError: the calculator cannot evaluate the structure.
        """
        _evaluate(self._with(calculator, self.start))
        saved = self.files.saved() or self._begun(calculator)
        soundness = Soundness.of(self.start, self.protocol.temperature)
        progress(saved.state.step - self.protocol.first)
        while saved.state.step < self.protocol.steps and saved.crash is None:
            before = saved.state
            saved = self.files.append(self._part(calculator, before, soundness), saved)
            progress(saved.state.step - before.step)
        return saved

    def _begun(self, calculator: Calculator) -> Saved:
        protocol, atoms = self.protocol, self._with(calculator, self.start)
        crash = None
        if protocol.relax:
            try:
                _relax(atoms)
            except _BROKEN as error:
                crash = self._crash(Cause.FAILED, f"the relaxation failed: {error}", protocol.first)
        atoms.set_momenta(thermal_momenta(atoms, protocol.temperature, (protocol.seed, 0)))
        saved = self.files.begin(State.of(protocol.first, atoms, {}))
        return saved if crash is None else self.files.append(Part(saved.state, crash=crash), saved)

    def _part(self, calculator: Calculator, state: State, soundness: Soundness) -> Part:
        """The steps from a state to the end of a part."""
        atoms = self._with(calculator, state.on(self.start))
        _evaluate(atoms)
        sound: list[Moment] = []
        crash, began = None, time.perf_counter()
        try:
            with np.errstate(all="ignore"):  # every moment is looked at
                for moment in self._sound_moments(atoms, state, soundness):
                    sound.append(moment)
        except UnsoundError as end:
            crash = self._crash(end.cause, str(end), state.step + len(sound) + 1)
            self.files.keep_last(sound[-1].atoms if sound else state.on(self.start))
        return self._gathered(state, sound, time.perf_counter() - began, crash)

    def _sound_moments(self, atoms: Atoms, state: State, soundness: Soundness) -> Iterator[Moment]:
        """The moments of a part; raises `UnsoundError` at the first that is not sound."""
        ensemble, conditions = self.protocol.phase(state.step)
        last = min((state.step // PART + 1) * PART, 0 if state.step < 0 else self.protocol.steps)
        moments = self.engine.moments(atoms, ensemble, conditions, state.hidden)
        try:
            for moment in islice(moments, last - state.step):
                soundness.check(moment, ensemble.freedom(atoms))
                yield moment
        except _BROKEN as error:
            if np.isfinite(atoms.positions).all():
                raise UnsoundError(Cause.FAILED, f"the model failed: {error}") from error
            raise UnsoundError(Cause.NOT_FINITE, "positions are not finite numbers") from error

    def _gathered(self, state: State, sound: Sequence[Moment], seconds: float, crash: Crash | None) -> Part:
        """Addition of a part, from its sound moments."""
        step = state.step + len(sound)
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

    def _crash(self, cause: Cause, said: str, step: int) -> Crash:
        return Crash(cause, said, step, self.protocol.picoseconds(step))

    @staticmethod
    def _with(calculator: Calculator, atoms: Atoms) -> Atoms:
        moving = atoms.copy()
        moving.calc = calculator
        return moving


def _evaluate(atoms: Atoms) -> None:
    """Call the calculator for these atoms, so that the first step is like any other."""
    if not np.isfinite(atoms.get_forces()).all():
        raise StructureError("The model gives forces that are not finite numbers at the start. Check the model.")


def _relax(atoms: Atoms) -> None:
    from ase.optimize import FIRE  # slow to import, and only needed here

    FIRE(atoms, logfile=None).run(_REST, steps=_RELAXING)
