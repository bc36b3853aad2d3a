"""Diffusion and the vibrational density of states, from displacements and velocities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units

from equiprune.evaluation.dynamics.statistics import Estimate, standard_error

PER_CENTIMETRE = 33.35640951981521
"""cm^-1 in one THz."""
SQUARE_CENTIMETRES = 1e-4
"""cm^2/s in one Angstrom^2/ps."""

_PARTS = 4
"""Parts of the trajectory whose diffusion coefficients are compared for an error."""
_LAGS = (0.1, 0.5)
"""Range of times, of each part's length, that a line is fitted to."""
_SEGMENTS = 4
"""Parts of a series whose spectra are averaged, each overlapping its neighbours by half."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A vibrational density of states.

    Attributes:
        frequencies: (bins,), THz.
        density: (bins,), 1/THz; its integral is 1.
    """

    frequencies: np.ndarray
    density: np.ndarray

    @property
    def peak(self) -> float:
        """THz, where it is highest; what is at 0 is diffusion."""
        return float(self.frequencies[1 + self.density[1:].argmax()])

    def overlap(self, other: Spectrum) -> float:
        """Share that it has in common with another one of the same frequencies, 1 where they are the same."""
        width = self.frequencies[1] - self.frequencies[0]
        return float(np.minimum(self.density, other.density).sum() * width)

    def to_json(self) -> dict[str, Any]:
        """``peak`` (THz), ``peak_per_cm`` (cm^-1), ``frequencies`` (THz), ``density`` (1/THz)."""
        curve = {name: getattr(self, name).round(8).tolist() for name in ("frequencies", "density")}
        return {"peak": self.peak, "peak_per_cm": self.peak * PER_CENTIMETRE, **curve}


def positions_of(frames: Sequence[Atoms]) -> np.ndarray:
    """Positions (frames, atoms, 3), Angstrom, seen from the centre of mass of all atoms."""
    weights = frames[0].get_masses() / frames[0].get_masses().sum()
    places = np.array([frame.positions for frame in frames])
    return places - np.einsum("a,fax->fx", weights, places)[:, None]


def velocities_of(frames: Sequence[Atoms]) -> np.ndarray:
    """Velocities (frames, atoms, 3), Angstrom/ps."""
    return np.array([frame.get_velocities() for frame in frames]) * 1e3 * units.fs


def displacements(positions: np.ndarray) -> np.ndarray:
    """Mean squared displacements (frames,), Angstrom^2, after every number of frames, over all beginnings and atoms.

    Works in the time of a Fourier transform: sums of squares minus twice the autocorrelation.

    >>> displacements(np.arange(4.0)[:, None, None] * np.ones(3)).round(9)
    array([ 0.,  3., 12., 27.])
    """
    count = len(positions)
    transformed = np.fft.rfft(positions, 2 * count, axis=0)
    correlation = np.fft.irfft(np.abs(transformed) ** 2, 2 * count, axis=0)[:count].sum(axis=(1, 2))
    squares = (positions**2).sum(axis=(1, 2))
    ends = np.cumsum(squares[::-1])[::-1] + np.cumsum(squares)[::-1]
    return (ends - 2 * correlation) / (np.arange(count, 0, -1) * positions.shape[1])


def diffusion(positions: np.ndarray, interval: float) -> Estimate:
    """The diffusion coefficient of atoms (frames, atoms, 3) that were never wrapped, Angstrom^2/ps.

    Einstein's relation: a sixth of the slope of the mean squared displacement between a tenth and half of the time, the
    mean and the standard error of four parts of the trajectory.

    Args:
        positions: Angstrom.
        interval: ps from frame to frame.
    """
    length = len(positions) // _PARTS
    begin, end = (round(share * length) for share in _LAGS)
    if end - begin < 2:
        return Estimate(np.nan)
    times = interval * np.arange(begin, end)
    parts = (positions[i * length : (i + 1) * length] for i in range(_PARTS))
    slopes = np.array([np.polyfit(times, displacements(part)[begin:end], 1)[0] for part in parts]) / 6
    return Estimate(float(slopes.mean()), standard_error(slopes))


def diffusion_by_element(frames: Sequence[Atoms], interval: float) -> Mapping[str, Estimate]:
    """The diffusion coefficient of every element, Angstrom^2/ps, from frames so many ps apart."""
    places, symbols = positions_of(frames), np.array(frames[0].get_chemical_symbols())
    return {symbol: diffusion(places[:, symbols == symbol], interval) for symbol in sorted(set(symbols))}


def vibrations(velocities: np.ndarray, masses: np.ndarray, interval: float) -> Spectrum | None:
    """The vibrational density of states: the spectrum of the velocities' autocorrelation, weighted by masses.

    Averaged over overlapping parts of the trajectory (Welch's method, Hann windows), by whose length frequencies are
    told apart. None with fewer than 15 frames.

    Args:
        velocities: (frames, atoms, 3), Angstrom/ps.
        masses: (atoms,), atomic mass units.
        interval: ps from frame to frame.
    """
    length = 2 * len(velocities) // (_SEGMENTS + 1)
    if length < 6:
        return None
    window = np.hanning(length + 1)[:-1, None, None]
    begins = range(0, len(velocities) - length + 1, length // 2)
    spectra = (np.fft.rfft(window * velocities[begin : begin + length], axis=0) for begin in begins)
    density = sum(np.einsum("fax,a->f", np.abs(spectrum) ** 2, masses) for spectrum in spectra)
    frequencies = np.fft.rfftfreq(length, interval)
    return Spectrum(frequencies, density / (density.sum() * frequencies[1]))
