"""``equiprune run`` where a search has ended, and its run, which was killed, recorded no end."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_line import Run
from pretended_machine import pretend
from runs import bare, write

import equiprune as ep
from equiprune.cli.pipeline import run as pipeline
from equiprune.cli.pipeline.run import Ended

RECIPE = """
model: toy
stages:
  - search: {name: choice, data: labelled.extxyz, output: chosen.json, faster: 1.25, measured: 6, candidates: 2,
             finalists: 1, steps: 1, structures: 10, timed_atoms: 4}
  - prune: {plan: choice}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search on 12 structures, on a machine that is never busy and that nothing was measured on before."""
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    pretend(monkeypatch)
    write(tmp_path / "labelled.extxyz", list(ep.label(ep.load("toy"), bare(12))))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


@pytest.mark.slow
def test_a_search_that_outlived_its_run_ends_in_the_same_choice(
    cli: Run, launched: list[list[str]], recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, stage = pipeline.launch, tmp_path / "out" / "choice"

    def killed(words: Sequence[str], lock: int) -> Ended:
        launch(words, lock)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "launch", killed)
        assert cli("run", recipe, "-o", tmp_path / "out").code == 2
    assert {path.name for path in stage.iterdir()} == {"stage.json", "chosen.json"}
    chosen = json.loads((stage / "chosen.json").read_text())
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr("equiprune.searching.material.Material.trained", None)  # nothing is trained or measured again
    monkeypatch.setattr("equiprune.searching.rounds.measured", None)
    ran = cli("run", recipe, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert [words[0] for words in launched] == ["search", "search", "prune"]
    assert json.loads((stage / "chosen.json").read_text()) == chosen
    assert not (stage / "chosen.json.partial").exists()
