"""Criteria against explicit loops, and scores as values."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

import equiprune as ep
from equiprune.adapters import Taps
from equiprune.errors import PlanError
from equiprune.files.atomic import as_json
from equiprune.pruning.calibration import score_batch
from equiprune.pruning.figure import table
from equiprune.pruning.importance import RunningScores

SCALAR, VECTOR = ep.Irrep(0, 1), ep.Irrep(1, -1)


def observed(potential: ep.Potential, atoms: Atoms, space: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A feature and dE/dfeature, from one tap and a plain autograd call."""
    seen = []

    def tap(feature: torch.Tensor) -> torch.Tensor:
        seen.append(feature.requires_grad_() if not feature.requires_grad else feature)
        return seen[-1]

    energy = replace(potential, taps=Taps(watched={space: tap})).energies(potential.graph([atoms])).sum()
    return seen[0], torch.autograd.grad(energy, seen[0])[0]


SPACES = ["radial_basis", "node_feats.0", "edge_irreps.1", "radial.1", "node_feats.1", "node_feats.2"]


@pytest.mark.parametrize("space", SPACES)
def test_taylor_is_the_sum_over_sites_of_the_absolute_inner_product(
    toy: ep.Potential, structures: list[Atoms], space: str
) -> None:
    h, g = observed(toy, structures[3], space)
    scores = ep.calibrate(toy, structures[3:], ep.Taylor()).mean[space]
    irreps = {s.name: s.irreps for s in toy.spaces}[space]
    for mul, ir, span in irreps.slices():
        for channel in range(mul):
            columns = range(span.start + channel * ir.dim, span.start + (channel + 1) * ir.dim)
            expected = sum(abs(sum((h[site, m] * g[site, m]).item() for m in columns)) for site in range(len(h)))
            assert scores[ir][channel] == pytest.approx(expected, rel=1e-10)


def test_taylor_is_the_energy_a_weak_block_contributes(toy: ep.Potential, structures: list[Atoms]) -> None:
    """With one site only, the score is |dE/ds| of the block scaled by s."""
    atom = Atoms("C")
    scores = ep.calibrate(toy, [atom]).mean["node_feats.0"][SCALAR]
    for channel in range(6):

        def energy(scale: float, channel: int = channel) -> float:
            weights = torch.ones(6, dtype=torch.float64).index_fill(0, torch.tensor(channel), scale)
            scaled = replace(toy, taps=Taps(watched={"node_feats.0": lambda h: h * weights}))
            return scaled.predict([atom])[0].energy.item()

        assert scores[channel] == pytest.approx(abs(energy(1 + 1e-5) - energy(1 - 1e-5)) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("space", SPACES)
def test_activation_is_the_sum_over_sites_of_the_norm(toy: ep.Potential, structures: list[Atoms], space: str) -> None:
    h, _ = observed(toy, structures[1], space)
    scores = ep.calibrate(toy, structures[1:2], ep.Activation()).mean[space]
    irreps = {s.name: s.irreps for s in toy.spaces}[space]
    for mul, ir, span in irreps.slices():
        for channel in range(mul):
            block = h[:, span][:, channel * ir.dim : (channel + 1) * ir.dim].detach().numpy()
            assert scores[ir][channel] == pytest.approx(np.sqrt((block**2).sum(axis=1)).sum(), rel=1e-10)


def test_magnitude_is_the_norm_of_the_effective_weights_that_produce_a_block(toy: ep.Potential) -> None:
    scores = ep.calibrate(toy, [], ep.Magnitude()).mean
    weights = {name: weight.double().numpy() for name, weight in toy.checkpoint.weights.items()}
    embedding = weights["embedding_weight"].reshape(4, 6) / np.sqrt(4)
    np.testing.assert_allclose(scores["node_feats.0"][SCALAR], np.linalg.norm(embedding, axis=0))
    # Interaction 0 reads 6x0e; its gate input is 6 scalars, 4 gate scalars and 4 vectors.
    skip = weights["self_connection_0_weight"].reshape(6, 10) / np.sqrt(6)
    down = weights["linear_down_0_weight"]
    to_scalars, to_vectors = down[:60].reshape(6, 10) / np.sqrt(6), down[60:].reshape(6, 4) / np.sqrt(6)
    both = np.vstack([skip, to_scalars])[:, :6]
    np.testing.assert_allclose(scores["node_feats.1"][SCALAR], np.linalg.norm(both, axis=0))
    np.testing.assert_allclose(scores["node_feats.1"][VECTOR], np.linalg.norm(to_vectors, axis=0))
    radial = weights["radial_1_layer0_weight"] / np.sqrt(4)
    np.testing.assert_allclose(scores["radial.1"][SCALAR], np.linalg.norm(radial, axis=0))


def test_random_scores_come_from_their_seed(toy: ep.Potential) -> None:
    first, again, other = (ep.calibrate(toy, [], ep.Random(seed)) for seed in (1, 1, 2))
    assert first.to_json() == again.to_json()
    assert first.mean["node_feats.1"][VECTOR].tolist() != other.mean["node_feats.1"][VECTOR].tolist()
    assert first.mean.keys() == {space.name for space in toy.spaces if space.scored}


def test_scores_survive_json_to_the_last_digit(toy: ep.Potential, structures: list[Atoms]) -> None:
    scores = ep.calibrate(toy, structures)
    read = ep.ImportanceScores.from_json(json.loads(json.dumps(scores.to_json())))
    assert read.to_json() == scores.to_json()
    assert read.structures == 4
    assert read.mean["node_feats.1"][VECTOR].tolist() == scores.mean["node_feats.1"][VECTOR].tolist()


@pytest.mark.parametrize(
    "change", [{"format": "other"}, {"mean": {"x": {"none": [1.0]}}}, {"mean": 1}, {"mean": {"x": []}}]
)
def test_what_are_no_scores_is_refused(toy: ep.Potential, change: dict[str, Any]) -> None:
    value = ep.calibrate(toy, [], ep.Random()).to_json()
    with pytest.raises(PlanError, match="not a scores file"):
        ep.ImportanceScores.from_json(value | change)


def test_scores_of_another_model_are_refused(toy: ep.Potential, single: ep.Potential) -> None:
    with pytest.raises(PlanError, match="another model"):
        ep.calibrate(toy, [], ep.Random()).check(single.spaces)


def test_ranking_is_by_score_then_by_channel() -> None:
    scores = ep.ImportanceScores({"x": {SCALAR: np.array([0.1, 0.3, 0.1, 0.2])}}, {}, 1)
    assert scores.ranking("x", SCALAR) == [1, 3, 0, 2]


def test_scores_know_their_criterion(toy: ep.Potential) -> None:
    assert ep.calibrate(toy, [], ep.Magnitude()).criterion == "magnitude"
    assert ep.ImportanceScores({}, {}, 0).criterion == "?"


def test_whole_numbers_in_a_file_are_scores_too(toy: ep.Potential) -> None:
    stored = ep.calibrate(toy, [], ep.Random()).to_json()
    stored["mean"]["node_feats.1"]["0e"] = list(range(len(stored["mean"]["node_feats.1"]["0e"])))
    assert ep.ImportanceScores.from_json(stored).mean["node_feats.1"][SCALAR].dtype == np.float64


def test_running_scores_add_up(toy: ep.Potential, structures: list[Atoms]) -> None:
    a, b, both = (score_batch(toy, part, ep.Taylor()) for part in (structures[:1], structures[1:], structures))
    added = (a + b).scores({})
    for name, values in both.scores({}).mean.items():
        for ir, value in values.items():
            np.testing.assert_allclose(added.mean[name][ir], value, rtol=1e-9)
    nothing = RunningScores.nothing()
    assert (nothing + a).to_json() == (a + nothing).to_json() == a.to_json()
    assert RunningScores.from_json(json.loads(json.dumps(a.to_json()))).to_json() == a.to_json()


def test_the_standard_error_is_that_of_the_mean_over_structures(toy: ep.Potential, structures: list[Atoms]) -> None:
    alone = [ep.calibrate(toy, [atoms]).mean["node_feats.1"][VECTOR] for atoms in structures]
    together = ep.calibrate(toy, structures)
    expected = np.std(alone, axis=0, ddof=1) / np.sqrt(len(structures))
    np.testing.assert_allclose(together.standard_error["node_feats.1"][VECTOR], expected, rtol=1e-9)


def test_of_one_structure_the_standard_error_is_undefined(toy: ep.Potential, structures: list[Atoms]) -> None:
    scores = ep.calibrate(toy, structures[:1])
    errors = [error for by in scores.standard_error.values() for error in by.values()]
    assert all(np.isnan(error).all() for error in errors)
    assert all(np.isfinite(mean).all() for by in scores.mean.values() for mean in by.values())
    stored = json.loads(as_json(scores.to_json()))
    assert stored["standard_error"]["node_feats.2"]["0e"] == [None] * 5
    reread = ep.ImportanceScores.from_json(stored)
    np.testing.assert_array_equal(reread.standard_error["node_feats.2"][SCALAR], [np.nan] * 5)
    assert {row[4] for row in table(scores)[1:]} == {"undefined"}
    assert not np.isnan(ep.calibrate(toy, structures[:2]).standard_error["node_feats.2"][SCALAR]).any()


def test_an_undefined_error_of_many_structures_is_no_scores_file(toy: ep.Potential, structures: list[Atoms]) -> None:
    stored = {**ep.calibrate(toy, structures[:1]).to_json(), "structures": 2}
    with pytest.raises(PlanError, match="not a scores file"):
        ep.ImportanceScores.from_json(stored)
