"""Scores: complete, and a property of the structures and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import default_rng

from equiprune.pruning.calibration import calibrate
from equiprune.pruning.criteria import Activation, Taylor
from equiprune.pruning.importance import ImportanceScores
from equiprune.verification.contract_cases import shifted, turned
from equiprune.verification.laws.contract import Contract


class ScoreLaws(Contract):
    """Importance of blocks."""

    def test_every_scored_space_gets_a_score_per_channel(self) -> None:
        """Scores are complete, non-negative, and somewhere positive."""
        for potential in self.potentials():
            scores = calibrate(potential, self.structures(potential.elements))
            found = {name: {ir: len(v) for ir, v in by.items()} for name, by in scores.mean.items()}
            wanted = {s.name: {ir: mul for mul, ir in s.irreps} for s in potential.spaces if s.scored}
            assert found == wanted, f"channels have no score: {[n for n in wanted if found.get(n) != wanted[n]]}"
            for name, values in scores.mean.items():
                assert min(v.min() for v in values.values()) >= 0, f"scores are negative: {name}"
                reaches = not (self.idle and name.startswith(self.idle))
                scored = max(v.max() for v in values.values()) > 0
                assert scored == reaches, f"what reaches an output and what has scores are not the same: {name}"

    def test_scores_do_not_depend_on_the_frame(self) -> None:
        """Rotating, translating and permuting structures changes no score; without exact rotations, translating."""
        for potential in self.potentials():
            structures = self.structures(potential.elements)
            generator = default_rng(3)
            move = turned if potential.architecture.exact_rotations else shifted
            moved = [move(atoms, generator) for atoms in structures]
            for criterion in (Taylor(), Activation()):
                here, there = (calibrate(potential, given, criterion) for given in (structures, moved))
                apart = _apart(here, there)
                assert not apart, f"scores depend on the frame: {criterion.name} of {apart}"

    def test_scores_add_up_over_batches(self) -> None:
        """The mean over all structures is the mean of each alone, however they are batched."""
        for potential in self.potentials():
            structures = self.structures(potential.elements)
            together = calibrate(potential, structures, batch_atoms=10**6)
            alone = [calibrate(potential, [atoms]) for atoms in structures]
            mean = {
                name: {ir: np.mean([scores.mean[name][ir] for scores in alone], axis=0) for ir in by}
                for name, by in together.mean.items()
            }
            apart = _apart(together, replace(together, mean=mean))
            assert not apart, f"scores depend on the batch: {apart}"


def _apart(a: ImportanceScores, b: ImportanceScores) -> list[str]:
    """Spaces and irreps whose scores differ by more than rounding."""
    return [
        f"{name} {ir}"
        for name, values in a.mean.items()
        for ir, value in values.items()
        if not np.allclose(value, b.mean[name][ir], rtol=1e-7, atol=1e-11)
    ]
