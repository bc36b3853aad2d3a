"""Radial distribution functions of an ideal gas and of a crystal, and where they end."""

import ase
import ase.geometry.rdf
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from equiprune.errors import TargetError
from equiprune.evaluation.dynamics.distribution import Distribution, distributions, farthest, pairs_of

SKEWED = np.array([[12.0, 0, 0], [3, 13, 0], [-2, 4, 14]])


def gas(count: int, seed: int) -> Atoms:
    """Atoms of two elements that do not know of each other, in a triclinic cell."""
    places = np.random.default_rng(seed).random((count, 3))
    return Atoms(["O"] * (count // 3) + ["H"] * (count - count // 3), scaled_positions=places, cell=SKEWED, pbc=True)


def test_an_ideal_gas_has_no_structure() -> None:
    frames = [gas(300, seed) for seed in range(20)]
    for found in distributions(frames, pairs_of(frames[0]), 5.0):
        beyond = found.values[20:]
        assert beyond.mean() == pytest.approx(1, abs=0.01)
        assert np.abs(beyond - 1).max() < 6 * found.errors[20:].max()
        assert np.median(found.errors[20:]) == pytest.approx(beyond.std(), rel=0.5)


def test_shells_of_a_crystal_have_their_numbers_of_atoms() -> None:
    """Face-centred cubic: 12 neighbours at a/sqrt(2), 6 at a, 24 at a sqrt(3/2)."""
    crystal = bulk("Cu", "fcc", a=3.6, cubic=True).repeat(4)
    [found] = distributions([crystal], [("Cu", "Cu")], 5.0)
    density = len(crystal) / crystal.cell.volume
    width = found.radii[1] - found.radii[0]
    counted = density * found.values * 4 / 3 * np.pi * ((found.radii + width / 2) ** 3 - (found.radii - width / 2) ** 3)
    for radius, neighbours in ((3.6 / np.sqrt(2), 12), (3.6, 6), (3.6 * np.sqrt(1.5), 24)):
        assert counted[np.abs(found.radii - radius) < width].sum() == pytest.approx(neighbours)
    assert counted.sum() == pytest.approx(12 + 6 + 24)
    assert found.peak[0] == pytest.approx(3.6 / np.sqrt(2), abs=width)
    assert np.isnan(found.errors).all()


@pytest.mark.skipif(
    tuple(map(int, ase.__version__.split(".")[:2])) < (3, 27),
    reason="partial functions of ASE before 3.27 take numbers, and are normalised otherwise",
)
@pytest.mark.parametrize("pair", [("O", "O"), ("H", "O"), ("H", "H")])
def test_it_is_ase_s(pair: tuple[str, str]) -> None:
    frames = [gas(60, seed) for seed in range(3)]
    [found] = distributions(frames, [pair], 5.0)
    expected = [ase.geometry.rdf.get_rdf(f, 5.0, len(found.radii), elements=pair, no_dists=True) for f in frames]
    np.testing.assert_allclose(found.values, np.mean(expected, axis=0), atol=1e-12)


def test_a_peak_lies_between_bins() -> None:
    radii = np.arange(0.05, 4, 0.1)
    values = 3 - (radii - 2.02) ** 2
    found = Distribution(("O", "O"), radii, values, np.full_like(radii, 0.1))
    assert found.peak == pytest.approx((2.02, 3, 0.1), abs=1e-2)
    assert found.to_json()["peak"]["position"] == pytest.approx(2.02)
    at_the_end = Distribution(("O", "O"), radii, radii, radii)
    assert at_the_end.peak[0] == radii[-1]
    assert np.isnan(Distribution(("O", "O"), radii, 0 * radii, 0 * radii).peak[0])


def test_differences_are_beside_what_chance_makes() -> None:
    radii = np.arange(100.0)
    random = np.random.default_rng(0)
    first, second = (
        Distribution(("O", "O"), radii, 1 + 0.1 * random.standard_normal(100), 0.1 + 0 * radii) for _ in "ab"
    )
    difference, noise = first.difference(second)
    assert difference == pytest.approx(noise, rel=0.3)
    assert noise == pytest.approx(0.1 * np.sqrt(2) * np.sqrt(2 / np.pi))
    assert first.difference(first)[0] == 0


def test_it_ends_at_half_of_the_shortest_height() -> None:
    atoms = Atoms("H2O", positions=np.eye(3), cell=SKEWED, pbc=True)
    heights = [abs(np.linalg.det(SKEWED)) / np.linalg.norm(np.cross(SKEWED[i - 2], SKEWED[i - 1])) for i in range(3)]
    assert farthest(atoms) == pytest.approx(min(heights) / 2)
    assert farthest(atoms, 3.0) == 3.0
    assert farthest(atoms.repeat(3)) == 8.0
    assert farthest(Atoms("H2", positions=np.eye(3)[:2])) is None
    for asked in (6.1, 0.0, -1.0, np.nan):
        with pytest.raises(
            TargetError, match=rf"`reach` {asked:g} Angstrom is not possible: give at most half .* 5\.\d\d"
        ):
            farthest(atoms, asked)


def test_pairs_are_named_or_all() -> None:
    water = Atoms("H2O")
    assert pairs_of(water) == (("H", "H"), ("H", "O"), ("O", "O"))
    assert pairs_of(water, "O-O, O-H,H-O") == (("O", "O"), ("H", "O"))
    for text in ("O", "O-C", "O-H-H", "", "OO"):
        with pytest.raises(TargetError, match=f"`pairs` '{text}' is not possible: give pairs of H, O, such as H-O"):
            pairs_of(water, text)
