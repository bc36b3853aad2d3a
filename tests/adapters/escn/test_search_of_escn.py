"""A search of an architecture whose forces are an output of their own, and which is not repaired."""

from pathlib import Path

import pytest

import equiprune as ep


@pytest.fixture
def labelled(model: ep.Potential) -> list:
    frames = [atoms for seed in range(4) for atoms in ep.probe_structures(model.elements, seed).values()]
    return list(ep.label(model, frames))


def test_a_plan_is_found(model: ep.Potential, labelled: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    preset = ep.PRESETS["escn"]
    effort = ep.Effort(measured=6, candidates=2, finalists=1, steps=1, structures=10)
    recipe = ep.Recipe(preset.objective, preset.optimisation)
    settings = ep.SearchSettings(effort=effort, recipe=recipe, timed_atoms=4)
    found = ep.search(model, labelled, ep.Budget(parameters=0.6), tmp_path / "search", settings=settings)
    child = ep.prune(model, found.plan)
    assert child.parameters(trainable_only=True) <= 0.6 * model.parameters(trainable_only=True)
    assert child.checkpoint.history[-1]["step"] == "prune"
