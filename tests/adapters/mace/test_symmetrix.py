"""Symmetrix-XL beside MACE's own code: the same numbers to its splines, or a refusal with the reason."""

from dataclasses import replace

import pytest
import torch
from random_mace import ELEMENTS, HETEROGENEOUS, random_checkpoint, stock

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.symmetrix import SymmetrixEngine
from equiprune.errors import TargetError
from equiprune.evaluation.engines import engine_named, verified

ATOMS = ep.probe_structures(ELEMENTS)["ionic"]


def potential(architecture: object, dtype: torch.dtype = torch.float64) -> ep.Potential:
    return ep.Potential.create(MaceAdapter(), random_checkpoint(architecture), dtype)


@pytest.mark.usefixtures("plain_code")
def test_unequal_widths_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SymmetrixEngine, "why_not_here", lambda self: "")
    with pytest.raises(TargetError, match="Symmetrix takes models of one width throughout: numbers of channels differ"):
        verified(engine_named("symmetrix"), potential(HETEROGENEOUS), ATOMS)


@pytest.mark.usefixtures("plain_code")
def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.adapters.mace.symmetrix.find_spec", lambda name: None)
    with pytest.raises(TargetError, match=r"symmetrix-xl is not installed.*pip install 'equiprune\[symmetrix\]'"):
        verified(engine_named("symmetrix"), potential(stock()), ATOMS)


@pytest.mark.slow
def test_what_the_converter_refuses_is_told_in_its_words() -> None:
    pytest.importorskip("symmetrix")
    with pytest.raises(TargetError, match=r"Symmetrix cannot evaluate this model .*l_max=3"):
        verified(engine_named("symmetrix"), potential(stock(max_ell=2)), ATOMS)


@pytest.mark.slow
def test_numbers_are_those_of_upstream_to_the_splines() -> None:
    """Two structures in a batch, with stress; and masks and Hessians, which it does not have, are refused."""
    pytest.importorskip("symmetrix")
    own = potential(stock(8, lmax=0, max_ell=3))
    native = verified(engine_named("symmetrix"), own, ATOMS)
    both = [ATOMS, ATOMS.repeat((2, 1, 1))]
    for found, expected in zip(native.predict(both), own.predict(both), strict=True):
        torch.testing.assert_close(found.energy, expected.energy, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.atom_energies, expected.atom_energies, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=1e-4)
        torch.testing.assert_close(found.stress, expected.stress, rtol=0, atol=1e-6)
    assert native.elements == set(ATOMS.numbers.tolist())
    assert native.as_upstream().evaluator is None
    with pytest.raises(TargetError, match="shows and masks no features"):
        native.differentiate(native.graph([ATOMS]), observe=["node_feats.0"])
    with pytest.raises(TargetError, match="cannot evaluate a masked model"):
        engine_named("symmetrix").prepared(replace(own, taps=_masked(own).taps), native.elements)


def _masked(own: ep.Potential) -> ep.Potential:
    return ep.masked(own, ep.allocate(own, [ep.Channels(4)], ep.data_free_scores(own, ep.Random(0))))
