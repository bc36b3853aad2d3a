"""Files: what is written is what is read, also in upstream's own format, and references travel with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from ase import Atoms
from numpy.random import default_rng

from equiprune.adapters.capabilities import Exports, HasAtomicEnergies
from equiprune.potentials.atomic_energies import with_references
from equiprune.potentials.checkpoint import load, save
from equiprune.potentials.potential import Potential
from equiprune.pruning.slicing import prune
from equiprune.verification.laws.agreement import different_bits
from equiprune.verification.laws.contract import Contract
from equiprune.verification.random_plans import random_plan

_STOCK = 1e-6
"""eV per atom: upstream's own tools evaluate in the precision of the file, which is float64 here."""


class FileLaws(Contract):
    """Formats and what they carry."""

    def test_saving_and_loading_gives_the_same_model(self, tmp_path: Path) -> None:
        """Bit by bit, for a parent and for a pruned child, with licence and history."""
        for i, parent in enumerate(self.potentials()):
            child = prune(parent, random_plan(parent, default_rng(5)))
            for name, model in ((f"parent-{i}", parent), (f"child-{i}", child)):
                save(model, tmp_path / name)
                loaded, meant = load(tmp_path / name, dtype=torch.float64, head=model.head), model.checkpoint
                assert loaded.architecture == meant.architecture, "a saved model has other hyperparameters"
                found = loaded.checkpoint
                assert found.licence == meant.licence, f"a saved model has another licence: {found.licence}"
                assert json.dumps(found.history) == json.dumps(meant.history), "a saved model has another history"
                changed = different_bits(found.weights, meant.weights)
                assert not changed, f"a saved model has other weights: {changed}"

    def test_exporting_and_reading_gives_the_same_model(self, tmp_path: Path) -> None:
        """Upstream's format, where the adapter writes it: the same weights, bit by bit, and upstream's own energies."""
        for i, parent in enumerate(self.potentials()):
            child = prune(parent, random_plan(parent, default_rng(10)))
            for name, model in ((f"parent-{i}", parent), (f"child-{i}", child)):
                if not isinstance(self.adapter, Exports) or self.adapter.why_not_exported(model.architecture):
                    continue
                path = tmp_path / f"{name}{self.adapter.suffixes[0]}"
                self.adapter.export(model.checkpoint, path)
                found, meant = self.adapter.read(path), model.checkpoint
                assert found.architecture == meant.architecture, "an exported model has other hyperparameters"
                changed = different_bits(found.weights, _in_precision(meant.weights, found.dtype))
                assert not changed, f"an exported model has other weights: {changed}"
                assert found.licence == meant.licence, f"an exported model has another licence: {found.licence}"
                assert json.dumps(found.history) == json.dumps(meant.history), (
                    "an exported model has another history: write the checkpoint's into the file, and read it back"
                )
                self._check_stock(self.adapter, path, Potential.create(self.adapter, found, found.dtype, model.head))

    def _check_stock(self, adapter: Exports, path: Path, potential: Potential) -> None:
        """Against upstream's own tools, in the precision of the file; rounding there differs, so little is asked."""
        structures = self.structures(potential.elements)
        stock = adapter.stock_energies(path, structures, potential.head)
        exact = potential.with_dtype(torch.float64).predict(structures)
        for atoms, theirs, ours, truth in zip(structures, stock, potential.predict(structures), exact, strict=True):
            rounding = 10 * abs(ours.energy.item() - truth.energy.item()) + _STOCK * len(atoms)
            apart = abs(theirs - ours.energy.item())
            assert apart <= rounding, f"upstream's own tools give another energy: {apart} eV away for {atoms.symbols}"

    def test_references_add_a_constant_per_element(self, tmp_path: Path) -> None:
        """Energies move by the sum over atoms, for one head. Forces, stress and other heads do not; files remember."""
        for i, parent in enumerate(self.potentials() if isinstance(self.adapter, HasAtomicEnergies) else ()):
            child = prune(parent, random_plan(parent, default_rng(7)))
            changes = {z: 0.37 * (k + 1) for k, z in enumerate(child.architecture.elements)}
            moved = with_references(child, changes, "changed")
            save(moved, tmp_path / f"moved-{i}")
            loaded = load(tmp_path / f"moved-{i}", dtype=torch.float64, head=child.head)
            structures = self.structures(child.elements)
            _assert_moved(child, moved, structures, changes, "with other references")
            _assert_moved(child, loaded, structures, changes, "with other references, saved")
            for head in set(child.architecture.heads) - {child.head}:
                pair = (replace(child, head=head), replace(moved, head=head))
                _assert_moved(*pair, structures, {}, "with other references for another head")


def _in_precision(weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: weight.to(dtype) for name, weight in weights.items()}


def _assert_moved(
    before: Potential, after: Potential, structures: Sequence[Atoms], changes: Mapping[int, float], when: str
) -> None:
    for atoms, a, b in zip(structures, before.predict(structures), after.predict(structures), strict=True):
        expected = sum(changes.get(int(z), 0.0) for z in atoms.numbers)
        apart = abs((b.energy - a.energy).item() - expected)
        assert apart < 1e-10, f"energies do not move by the sum over atoms {when}: {apart} eV away for {atoms.symbols}"
        assert (b.forces - a.forces).abs().max() < 1e-10, f"forces move {when}: {atoms.symbols}"
        assert (b.stress - a.stress).abs().max() < 1e-10, f"the stress moves {when}: {atoms.symbols}"
