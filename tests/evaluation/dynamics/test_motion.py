"""Diffusion of a random walk, and vibrations of oscillators, whose answers are known."""

import numpy as np
import pytest
from ase import Atoms

from equiprune.evaluation.dynamics.motion import (
    PER_CENTIMETRE,
    Spectrum,
    diffusion,
    diffusion_by_element,
    displacements,
    positions_of,
    vibrations,
)


def walk(frames: int, atoms: int, coefficient: float, interval: float, seed: int = 0) -> np.ndarray:
    """Positions of Brownian walkers with this diffusion coefficient, Angstrom^2/ps."""
    steps = np.random.default_rng(seed).standard_normal((frames, atoms, 3)) * np.sqrt(2 * coefficient * interval)
    return np.cumsum(steps, axis=0)


def test_a_random_walk_has_its_diffusion_coefficient() -> None:
    found = diffusion(walk(4000, 50, 0.23, 0.01), 0.01)
    assert found.value == pytest.approx(0.23, abs=4 * found.error)
    assert 0 < found.error < 0.03


def test_atoms_that_only_vibrate_do_not_diffuse() -> None:
    places = np.random.default_rng(1).standard_normal((2000, 5, 3))
    found = diffusion(places, 0.01)
    assert abs(found.value) < max(4 * found.error, 0.02)


def test_displacements_are_those_of_the_definition() -> None:
    places = np.random.default_rng(3).standard_normal((20, 4, 3))
    expected = [((places[lag:] - places[: 20 - lag]) ** 2).sum(-1).mean() for lag in range(20)]
    np.testing.assert_allclose(displacements(places), expected, atol=1e-12)


def test_too_few_frames_have_no_coefficient() -> None:
    assert np.isnan(diffusion(walk(11, 3, 1.0, 1.0), 1.0).value)


def test_every_element_diffuses_by_itself_about_the_centre_of_mass() -> None:
    moving = walk(2000, 60, 0.5, 0.01) * np.repeat([1.0, 0.1], 30)[None, :, None]
    drift = 0.1 * np.arange(2000.0)[:, None, None] * np.array([1.0, 0, 0])
    frames = [Atoms("H30O30", positions=places) for places in moving + drift]
    found = diffusion_by_element(frames, 0.01)
    assert found["H"].value == pytest.approx(0.5, rel=0.15)
    assert found["O"].value < 0.03
    centre = np.average(positions_of(frames), axis=1, weights=frames[0].get_masses())
    np.testing.assert_allclose(centre, 0, atol=1e-9)


@pytest.mark.parametrize("terahertz", [5.0, 37.3, 110.0])
def test_an_oscillator_vibrates_at_its_frequency(terahertz: float) -> None:
    times = np.arange(4000) * 2e-3
    velocities = np.cos(2 * np.pi * terahertz * times)[:, None, None] * np.ones((1, 2, 3))
    found = vibrations(velocities, np.array([1.0, 16.0]), 2e-3)
    assert found is not None
    assert found.peak == pytest.approx(terahertz, abs=found.frequencies[1])
    assert found.density.sum() * found.frequencies[1] == pytest.approx(1)
    assert found.frequencies[-1] == pytest.approx(250), "Nyquist"
    assert found.to_json()["peak_per_cm"] == pytest.approx(terahertz * PER_CENTIMETRE, rel=0.05)


def test_modes_weigh_as_their_kinetic_energy() -> None:
    times = np.arange(4000) * 2e-3
    velocities = np.zeros((4000, 2, 3))
    velocities[:, 0, 0] = np.cos(2 * np.pi * 100 * times) / np.sqrt(1)
    velocities[:, 1, 1] = 2 * np.cos(2 * np.pi * 20 * times) / np.sqrt(16)
    found = vibrations(velocities, np.array([1.0, 16.0]), 2e-3)
    assert found is not None
    low = found.density[found.frequencies < 60].sum() / found.density.sum()
    assert low == pytest.approx(4 / 5, rel=1e-3)


def test_a_wave_number_is_a_frequency() -> None:
    assert pytest.approx(1e12 / 2.99792458e10) == PER_CENTIMETRE


def test_spectra_that_share_nothing_and_all() -> None:
    frequencies = np.arange(4.0)
    first, second = (Spectrum(frequencies, np.array(each)) for each in ([0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]))
    assert (first.overlap(second), first.overlap(first)) == (0, 1)


def test_too_few_frames_have_no_spectrum() -> None:
    assert vibrations(np.ones((14, 1, 3)), np.ones(1), 1.0) is None
    assert vibrations(np.random.default_rng(0).standard_normal((15, 1, 3)), np.ones(1), 1.0) is not None
