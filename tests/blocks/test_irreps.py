"""Irreps: what is written is what is read, and products follow the triangle rule."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equiprune import Irrep, Irreps
from equiprune.errors import TargetError

IRREP = st.builds(Irrep, st.integers(0, 6), st.sampled_from([1, -1]))
ENTRIES = st.lists(st.tuples(st.integers(1, 200), IRREP), min_size=1, max_size=5, unique_by=lambda entry: entry[1])
IRREPS = ENTRIES.map(lambda entries: Irreps(tuple(entries)))


@given(IRREPS)
def test_text_reads_back(irreps: Irreps) -> None:
    assert Irreps.parse(str(irreps)) == irreps


@given(IRREPS)
def test_slices_tile_the_feature_vector(irreps: Irreps) -> None:
    columns = [column for _, _, span in irreps.slices() for column in range(irreps.dim)[span]]
    assert columns == list(range(irreps.dim))
    assert all(span.stop - span.start == mul * (2 * ir.l + 1) for mul, ir, span in irreps.slices())


@given(IRREP, IRREP)
def test_a_product_has_as_many_dimensions_as_its_factors(a: Irrep, b: Irrep) -> None:
    product = list(a * b)
    assert sum(ir.dim for ir in product) == prod(ir.dim for ir in (a, b))
    assert [ir.l for ir in product] == sorted({ir.l for ir in product})
    assert {ir.p for ir in product} == {a.p * b.p}


def test_counts_of_an_example() -> None:
    irreps = Irreps.parse("64x0e + 32x1o + 2e + 0x3o")
    assert str(irreps) == "64x0e+32x1o+1x2e"
    assert (irreps.dim, irreps.channels, irreps.lmax, len(irreps)) == (64 + 96 + 5, 97, 2, 3)
    assert irreps.mul(Irrep(1, -1)) == 32
    assert irreps.mul(Irrep(1, 1)) == 0


def test_sorting_order_is_that_of_e3nn() -> None:
    kinds = [Irrep(l, p) for l in (2, 1, 0) for p in (1, -1)]
    assert [str(ir) for ir in sorted(kinds, key=Irrep.sort_key)] == ["0o", "0e", "1o", "1e", "2o", "2e"]


def test_spherical_harmonics_and_scalars() -> None:
    assert str(Irreps.spherical_harmonics(3, -1)) == "1x0e+1x1o+1x2e+1x3o"
    assert str(Irreps.spherical_harmonics(2, 1)) == "1x0e+1x1e+1x2e"
    assert str(Irreps.scalars(7)) == "7x0e"
    assert (Irreps.scalars(0).dim, Irreps.scalars(0).lmax) == (0, -1)


@pytest.mark.parametrize("text", ["", "64", "64x", "64x1", "64x0x", "0e,1o", "-1x0e", "1.5x0e", "64 channels"])
def test_what_is_no_irreps_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(TargetError, match="64x0e"):
        Irreps.parse(text)


@pytest.mark.parametrize("text", ["2x0e", "1", "e", "1u"])
def test_what_is_no_irrep_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="such as 0e or 1o"):
        Irrep.parse(text)


def test_an_irrep_named_twice_is_refused() -> None:
    with pytest.raises(TargetError, match="once"):
        Irreps.parse("4x0e+2x0e")
