"""Pooling: one result of several copies of a structure that began with velocities of their own.

The copies know nothing of each other, so that their scatter is an honest error bar of their mean, however long each of
them remembers. Copies that crashed are said and counted, and left out of every mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from equiprune.evaluation.dynamics.crashes import Crash
from equiprune.evaluation.dynamics.distribution import Distribution
from equiprune.evaluation.dynamics.drift import Drift
from equiprune.evaluation.dynamics.measured import ModelDynamics
from equiprune.evaluation.dynamics.motion import Spectrum
from equiprune.evaluation.dynamics.statistics import Estimate, standard_error


def pooled(copies: Sequence[ModelDynamics]) -> ModelDynamics:
    """Means over copies with the standard errors of their scatter; of a single copy, what it is."""
    if len(copies) == 1:
        return copies[0]
    whole = [each for each in copies if each.crash is None]
    first = replace(copies[0], steps=sum(each.steps for each in copies), crash=_first_crash(copies), copies=copies)
    speeds = [each.steps_per_second for each in copies if each.steps_per_second]
    return replace(
        first,
        drift=_drift([each.drift for each in whole if each.drift]),
        temperature=_mean([each.temperature for each in whole]),
        pressure=_mean([each.pressure for each in whole]),
        volume=_mean([each.volume for each in whole]),
        distributions=_distributions([each.distributions for each in whole]),
        diffusion=_diffusion([each.diffusion for each in whole]),
        spectrum=_spectrum([each.spectrum for each in whole if each.spectrum]),
        steps_per_second=len(speeds) / sum(1 / speed for speed in speeds) if speeds else None,
        curves=_curves([each.curves for each in whole]),
    )


def over_copies(values: Sequence[float]) -> Estimate:
    """The mean of independent values and its standard error.

    >>> print(over_copies([299.0, 301.0, 303.0]))
    301.0 +- 1.2
    """
    series = np.array(values)
    return Estimate(float(series.mean()), standard_error(series))


def _first_crash(copies: Sequence[ModelDynamics]) -> Crash | None:
    crashed = [(each.crash.step, number, each.crash) for number, each in enumerate(copies) if each.crash]
    if not crashed:
        return None
    _, number, crash = min(crashed, key=lambda each: each[:2])
    return replace(crash, said=f"copy {number}: {crash.said} ({len(crashed)} of {len(copies)} copies crashed)")


def _mean(estimates: Sequence[Estimate | None]) -> Estimate | None:
    known = [each.value for each in estimates if each]
    return over_copies(known) if known else None


def _drift(drifts: Sequence[Drift]) -> Drift | None:
    if not drifts:
        return None
    scatter = float(np.sqrt(np.mean([each.rms**2 for each in drifts])))
    return Drift(over_copies([each.slope.value for each in drifts]), scatter, drifts[0].limit)


def _distributions(of_copies: Sequence[Sequence[Distribution]]) -> Sequence[Distribution]:
    found = []
    for same in zip(*of_copies, strict=True):
        values = np.array([each.values for each in same])
        errors = [standard_error(each) for each in values.T]
        found.append(replace(same[0], values=values.mean(axis=0), errors=np.array(errors)))
    return found


def _diffusion(of_copies: Sequence[Mapping[str, Estimate]]) -> Mapping[str, Estimate]:
    elements = of_copies[0] if of_copies else ()
    return {element: over_copies([each[element].value for each in of_copies]) for element in elements}


def _spectrum(spectra: Sequence[Spectrum]) -> Spectrum | None:
    if not spectra:
        return None
    return replace(spectra[0], density=np.mean([each.density for each in spectra], axis=0))


def _curves(of_copies: Sequence[Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    names = of_copies[0] if of_copies else ()
    return {name: np.mean([each[name] for each in of_copies], axis=0) for name in names}
