"""Symmetrix-XL beside MACE's own code: the same numbers to its splines, or a refusal with the reason."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import Run
from random_mace import ELEMENTS, HETEROGENEOUS, random_checkpoint, stock

import equiprune as ep
from equiprune.adapters import Outputs
from equiprune.adapters.engines import Evaluator
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.architecture import MaceArchitecture
from equiprune.adapters.mace.symmetrix import SymmetrixEngine
from equiprune.errors import TargetError
from equiprune.evaluation.engine_files import converted
from equiprune.evaluation.engines import engine_named, verified

ATOMS = ep.probe_structures(ELEMENTS)["ionic"]


def potential(architecture: MaceArchitecture, dtype: torch.dtype = torch.float64) -> ep.Potential:
    head = architecture.heads[0] if architecture.heads else None
    return ep.Potential.create(MaceAdapter(), random_checkpoint(architecture), dtype, head)


@pytest.mark.usefixtures("plain_code")
def test_unequal_widths_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SymmetrixEngine, "missing", lambda self: ())
    with pytest.raises(TargetError, match="Symmetrix takes models of one width throughout: numbers of channels differ"):
        verified(engine_named("symmetrix"), potential(HETEROGENEOUS), ATOMS)


@pytest.mark.usefixtures("plain_code")
def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.adapters.engines.find_spec", lambda name: None)
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


@pytest.mark.slow
def test_a_model_is_exported_for_symmetrix_after_a_comparison(cli: Run, tmp_path: Path) -> None:
    symmetrix = pytest.importorskip("symmetrix")
    own = potential(stock(8, lmax=0, max_ell=3))
    model, path = tmp_path / "small.model", tmp_path / "small.symmetrix.json"
    ep.save(own, model)
    assert cli("export", model, "-o", path, "--json").json == {"written": [str(path)]}
    atoms = ATOMS.copy()
    atoms.calc = symmetrix.Symmetrix(path, dtype="float64")
    [expected] = own.predict([ATOMS])
    assert atoms.get_potential_energy() == pytest.approx(expected.energy.item(), abs=1e-5)
    assert atoms.get_forces() == pytest.approx(expected.forces.numpy(), abs=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.model", "small.symmetrix.json"]
    molecule = ep.probe_structures(ELEMENTS)["molecule"]
    [expected] = own.predict([molecule])
    molecule.calc = atoms.calc  # bonds are short: the splines must be fine
    assert molecule.get_potential_energy() == pytest.approx(expected.energy.item(), abs=4e-8)


def _converted_wrongly(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """Symmetrix as upstream's module plays it; it multiplies the energy, or the forces alone."""

    def opened(self: SymmetrixEngine, path: Path, dtype: torch.dtype) -> Evaluator:
        own = potential(stock(), dtype)

        def evaluated(graph: ep.AtomicGraph) -> Outputs:
            found = own.evaluate(graph)
            change = 1e-3 * found.energies
            return replace(found, energies=found.energies + (change if wrong == "energy" else change - change.detach()))

        return evaluated

    monkeypatch.setattr(SymmetrixEngine, "missing", lambda self: ())
    monkeypatch.setattr(SymmetrixEngine, "write", lambda self, *arguments: arguments[-1].write_text("{}"))
    monkeypatch.setattr(SymmetrixEngine, "opened", opened)


@pytest.mark.parametrize("wrong", ["energy", "forces"])
@pytest.mark.usefixtures("plain_code")
def test_a_wrong_conversion_is_not_kept(wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _converted_wrongly(monkeypatch, wrong)
    with pytest.raises(TargetError, match=f"The engine 'symmetrix' gives other numbers than it should: {wrong}, eV/"):
        converted(potential(stock()), tmp_path / "small.symmetrix.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("plain_code")
def test_unequal_widths_are_not_exported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(SymmetrixEngine, "missing", lambda self: ())
    with pytest.raises(TargetError, match="Symmetrix takes models of one width throughout: numbers of channels differ"):
        converted(potential(HETEROGENEOUS), tmp_path / "small.symmetrix.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("plain_code")
def test_the_command_line_refuses_in_one_message(refused: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ep.save(potential(HETEROGENEOUS), tmp_path / "model")
    target = tmp_path / "small.symmetrix.json"
    monkeypatch.setattr(SymmetrixEngine, "missing", lambda self: ())
    refused("export", tmp_path / "model", "-o", target, says=("one width throughout", "Prune to equal channels"))
    monkeypatch.setattr(SymmetrixEngine, "missing", lambda self: ("symmetrix-xl",))
    refused("export", tmp_path / "model", "-o", target, says="pip install 'equiprune[symmetrix]'")
    refused("export", "toy", "-o", target, says="does not evaluate models of toy")


@pytest.mark.usefixtures("plain_code")
def test_a_model_of_several_heads_needs_one(refused: Run, tmp_path: Path) -> None:
    ep.save(potential(stock(heads=("a", "b"))), tmp_path / "model")
    refused("export", tmp_path / "model", "-o", tmp_path / "small.symmetrix.json", says="--head")
