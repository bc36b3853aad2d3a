"""``equiprune compress``: from structures and a budget to a model and a page; again, and with another budget.

Stages run in this process.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from command_line import Run
from pretended_machine import pretend, seconds

import equiprune as ep
from equiprune.adapters.base import Architecture
from equiprune.cli import main
from equiprune.cli.compress import Results, errors_at_the_end, missed_budget
from equiprune.cli.pipeline import run as pipeline
from equiprune.cli.pipeline.run import Ended
from equiprune.commands.compress import Compress
from equiprune.commands.options.budget import BudgetOptions
from equiprune.commands.options.opening import OpeningOptions
from equiprune.commands.options.targets import ShapeOptions
from equiprune.searching.journal import Errors
from equiprune.searching.search import SearchData
from equiprune.structures.probes import probe_structures
from equiprune.structures.sampling import held_out_frames

LITTLE = ["--measured", 6, "--candidates", 2, "--finalists", 1, "--steps", 1, "--structures", 10, "--timed-atoms", 4]
LITTLE += ["--epochs", 1, "--copies", 1]


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And timings of a machine that is never busy, but for those of the last stage."""
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    pretend(monkeypatch)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands of the stages that ran, in this process."""
    commands: list[str] = []

    def launch(words: Sequence[str], _: int) -> Ended:
        commands.append(words[0])
        with redirect_stdout(io.StringIO()) as said:
            code = main(list(words))
        return Ended(code, said.getvalue())

    monkeypatch.setattr(pipeline, "launch", launch)
    return commands


@pytest.fixture
def data(tmp_path: Path) -> Path:
    frames = [atoms for seed in range(2) for atoms in probe_structures([1, 6, 8, 14], seed).values()]
    ase.io.write(tmp_path / "mine.extxyz", frames, format="extxyz")
    return tmp_path / "mine.extxyz"


@pytest.mark.slow
def test_one_command_from_structures_to_a_model(cli: Run, launched: list[str], data: Path, tmp_path: Path) -> None:
    out, test = tmp_path / "compact", tmp_path / "test.extxyz"
    parent = ep.load("toy")
    ase.io.write(test, list(ep.label(parent, probe_structures([1, 6, 8, 14], 5).values())), format="extxyz")
    words = ["compress", "toy", "--data", data, "--parameters", 0.6, "--elements", "H,C,O,Si", *LITTLE, "-o", out]
    assert cli("prune", "toy", "--channels", 5, "--criterion", "magnitude", "-o", tmp_path / "other").code == 0
    more = ["--test", test, "--beside", tmp_path / "other"]
    ran = cli(*words, *more, "--json")
    assert ran.code == 0, ran.err
    stages = ["calibrate", "label", "search", "prune", "repair", "train", "certify", "evaluate", "benchmark"]
    assert launched == stages
    assert ran.json["certified"] is True
    assert ran.json["budget_kept"] is True
    assert list(ran.json["stages"]) == stages
    child = ep.load(out / "model")
    assert child.parameters(trainable_only=True) <= 0.6 * parent.parameters(trainable_only=True)
    assert [step["step"] for step in child.checkpoint.history][:3] == ["prune", "repair", "train"]
    page = (out / "report.md").read_text()
    assert "at most 0.6 of the parameters" in page
    assert "Certificate: **passed**" in page
    assert "| pruned and repaired |" in page
    assert page.count(f"| {tmp_path / 'other'} | ") == 2, "timed and evaluated"
    assert f"Errors against the labels of {test}" in page
    assert "1.00x" in page
    assert " times as fast as toy" in (out / "report.html").read_text(encoding="utf-8")
    # Again: nothing is done, and the same is said.
    launched.clear()
    again = cli(*words, *more)
    assert again.code == 0, again.err
    assert launched == []
    assert again.out.strip() == page.strip()
    # Another budget: calibration and labels stay, and so does the model of before.
    words[words.index(0.6)] = 0.5
    other = cli(*words, "--json")
    assert other.code == 0, other.err
    assert launched == ["search", "prune", "repair", "train", "certify", "benchmark"]
    assert "Costs were measured before on this machine." in other.err
    assert ep.load(out / "model").parameters() < ep.load(out / "model.1").parameters()
    # What the recipe says is what is run by hand.
    launched.clear()
    assert cli("run", out / "recipe.yaml", "-o", out).code == 0
    assert launched == []


STAGES = ["search", "prune", "repair", "train", "certify", "benchmark"]
"""Stages after calibration and labels."""


@pytest.mark.slow
def test_an_interrupted_search_goes_on_and_so_does_one_whose_result_misses_the_budget(
    cli: Run, launched: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, parent = tmp_path / "out", ep.load("toy")
    words = ["compress", "toy", "--data", data, "--faster", 1.25, *LITTLE, "-o", out]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def slower(_: object) -> ep.Cost:
        """At the end, models are a fifth slower than the search has measured."""
        return ep.Cost(1.2 * seconds(ep.load(out / "train" / "run" / "model")) / seconds(parent), None, 0.5)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("equiprune.searching.material.Material.trained", interrupted)
        assert cli(*words).code == 2
    assert launched == ["calibrate", "label", "search"]
    assert not (out / "model").exists()
    assert (out / "search" / "search.json.partial" / "journal.json").exists()
    launched.clear()
    with misses():
        missed = cli(*words)
    assert missed.code == 1, missed.err
    assert "**The result is 0.50 times as fast as its parent, measured at the end; asked for was" in missed.out
    assert not (out / "model").exists(), "what misses its budget is not delivered"
    assert "ep.load(" not in missed.out
    assert " times as fast as toy" in (out / "report.html").read_text(encoding="utf-8"), "timed all the same"
    assert launched == STAGES
    assert "Going on from" in missed.err
    launched.clear()
    monkeypatch.setattr("equiprune.cli.compress.cost_at_the_end", slower)
    ran = cli(*words, "--json")
    assert ran.code == 0, ran.err
    assert launched == ["benchmark", *STAGES], "measured again; then the search goes on"
    assert "It is measured again." in ran.err
    assert "The search goes on." in ran.err
    speed = seconds(parent) / seconds(ep.load(out / "model")) / 1.2
    assert 0.95 * 1.25 <= speed == pytest.approx(ran.json["speed"])
    launched.clear()
    assert cli(*words).code == 0
    assert launched == [], "finished"
    with misses():
        ran = cli(*words, "--json")
    assert (ran.code, ran.json["model"]) == (1, None)
    assert [path.name for path in out.glob("model*")] == ["model.1"], "delivered before, and kept"
    assert "model.1" not in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_finished_model_whose_forces_miss_the_budget_gives_way_to_a_larger_one(
    cli: Run, launched: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = ["compress", "toy", "--data", data, "--max-force-error", 1e6, *LITTLE, "-o", out, "--json"]
    sizes: list[float] = []

    def worse_at_first(results: Results) -> Errors:
        """Forces of the first finished model, the smallest of all, are not good enough."""
        found = results["search"]["measured"]["parameters"]
        sizes.extend([] if found in sizes else [found])
        return Errors(0.0, 2e6 if found == sizes[0] else errors_at_the_end(results).forces)

    monkeypatch.setattr("equiprune.cli.compress.errors_at_the_end", worse_at_first)
    ran = cli(*words)
    assert ran.code == 0, ran.err
    assert launched[:8] == ["calibrate", "label", *STAGES]
    assert launched[8:] == ["benchmark", "search", "prune", "benchmark", "benchmark", *STAGES], "two are the smallest"
    assert "has forces 2000000.0 meV/Angstrom from the labels of structures that were held out" in ran.err
    first, second = sizes
    assert first < second
    assert ran.json["stages"]["search"]["errors"]["forces"] < 1e6
    assert (out / "model").exists()


@pytest.mark.parametrize("seed", [0, 3])
def test_forces_are_judged_on_the_structures_that_the_search_held_out(data: Path, seed: int) -> None:
    asked = Compress("toy", data=data, output="out", budget=BudgetOptions(max_force_error=40.0), seed=seed)
    stages = {name: settings for stage in asked.stages() for name, settings in stage.items()}
    settings = stages["train"]
    assert (settings["structure_key"], settings["seed"]) == (
        stages["search"]["structure_key"],
        stages["search"]["seed"],
    )
    structures, ids = [Atoms("H", info={"i": i}) for i in range(40)], [i // 4 for i in range(40)]
    held_out = held_out_frames(ids, float(settings["validation_share"]), int(settings["seed"]))
    _, judged = SearchData(structures, ids).split(seed)
    assert [atoms.info["i"] for atoms in judged] == held_out.tolist()


@contextmanager
def misses() -> Iterator[None]:
    """The result is half as fast as its parent, and that is all that is tried."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("equiprune.cli.compress.cost_at_the_end", lambda _: ep.Cost(2.0, None, 0.5))
        patched.setattr("equiprune.cli.compress._SEARCHES", 0)
        yield


@pytest.mark.slow
def test_a_search_that_outlived_its_run_keeps_its_choice(
    cli: Run, launched: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after kill -9 of the run: the search ends, and nobody records it."""
    search, words = tmp_path / "out" / "search", ["compress", "toy", "--data", data, "--faster", 1.25, *LITTLE]
    launch = pipeline.launch

    def killed(words: Sequence[str], lock: int) -> Ended:
        ended = launch(words, lock)
        if words[0] == "search":
            raise KeyboardInterrupt
        return ended

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "launch", killed)
        assert cli(*words, "-o", tmp_path / "out").code == 2
    before = json.loads((search / "search.json").read_text())
    assert [path.name for path in search.iterdir() if path.name.endswith(".partial")] == []
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr("equiprune.searching.material.Material.trained", None)  # nothing is trained or measured again
    monkeypatch.setattr("equiprune.searching.rounds.measured", None)
    monkeypatch.setattr("equiprune.cli.compress._SEARCHES", 0)
    cli(*words, "-o", tmp_path / "out")
    assert launched[:5] == ["calibrate", "label", "search", "search", "prune"]
    assert json.loads((search / "search.json").read_text()) == before


@pytest.mark.slow
def test_elements_that_could_go_are_named(cli: Run, tmp_path: Path) -> None:
    water = Atoms("H2O", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    ase.io.write(tmp_path / "water.extxyz", [water] * 4, format="extxyz")
    words = ["compress", "toy", "--data", tmp_path / "water.extxyz", "--faster", 2, "-o", tmp_path / "out", "--dry-run"]
    ran = cli(*words)
    assert "2 of the model's 4 elements are in none of the structures" in ran.err
    assert "--elements H,O makes the model smaller, exactly" in ran.err
    assert "in none of" not in cli(*words, "--elements", "H,O").err


def test_dry_run_writes_nothing(cli: Run, data: Path, tmp_path: Path) -> None:
    ran = cli("compress", "toy", "--data", data, "--faster", 2, "-o", tmp_path / "out", "--dry-run")
    assert ran.code == 0, ran.err
    assert "equiprune search toy" in ran.out
    assert "--faster 2.0" in ran.out
    assert "--copies 3 --origins" in ran.out
    assert not (tmp_path / "out").exists()


def test_settings_go_to_the_stages_that_they_are_for(data: Path) -> None:
    asked = Compress(
        "toy", data=data, output="out", budget=BudgetOptions(memory="8GB", atoms=5000, keep_lmax=1), seed=3
    )
    stages = {name: settings for stage in asked.stages() for name, settings in stage.items()}
    assert stages["search"] | {"memory": "8GB", "atoms": "5000", "keep_lmax": "1", "seed": "3"} == stages["search"]
    assert stages["train"]["preset"] == "sevennet"
    assert stages["train"]["epochs"] == "20"
    assert stages["certify"] == {"model": "train", "parent": "parent"}
    assert stages["prune"] == {"plan": "search"}
    assert "evaluate" not in stages
    names = ["calibrate", "label", "search", "prune", "repair", "train", "certify", "benchmark"]
    assert list(stages) == names
    *_, timed, promised = asked.stages()
    assert "name" not in timed["benchmark"]
    limit = {"atoms": "5000", "memory": "8GB"}
    assert promised["benchmark"] == {"name": "memory", "models": "train", "repeats": "1", "data": "label"} | limit


def test_a_head_is_named_as_long_as_there_are_several(data: Path) -> None:
    budget, opening = BudgetOptions(faster=2.0), OpeningOptions(head="PBE")
    for heads, named in ((None, 8), ("PBE", 5)):
        asked = Compress(
            "toy", data=data, output="out", budget=budget, target=ShapeOptions(heads=heads), opening=opening
        )
        stages = {name: settings for stage in asked._stages(True, 8) for name, settings in stage.items()}
        assert sum("head" in settings for settings in stages.values()) == named


@pytest.mark.parametrize(
    ("speed", "gigabytes", "forces", "missed"),
    [(3.1, 8, 40, False), (2.9, 8.3, 40, False), (2.8, 8, 40, True), (3, 9, 40, True), (3.1, 8, 40.2, True)],
)
def test_a_missed_budget_is_named(data: Path, speed: float, gigabytes: float, forces: float, missed: bool) -> None:
    budget = BudgetOptions(faster=3.0, memory="8GB", atoms=5000, max_force_error=40.0)
    asked = Compress("toy", data=data, output="out", budget=budget)
    results = {
        "search": {"measured": {"parameters": 0.5}},
        "train": {"accuracy": [{"model": "trained", "energy_mae": 1.0, "forces_mae": forces}]},
        "benchmark": [{"atoms_per_second": 100.0}, {"atoms_per_second": 100.0 * speed}],
        "memory": [{"peak_memory_bytes": int(gigabytes * 1e9), "atoms": 5000}],
    }
    said = missed_budget(asked, results)
    assert said == missed * (
        f"The result is {speed:.2f} times as fast as its parent, needs {gigabytes} GB, has forces {forces:.1f} "
        "meV/Angstrom from the labels of structures that were held out, measured at the end; asked for was at least 3 "
        "times as fast, at most 8 GB for 5000 atoms, the smallest with force errors up to 40 meV/Angstrom."
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Say what you can afford: --faster"),
        (["--faster", 0.5], "--faster 0.5 is not possible"),
        (["--faster", 2, "--epochs", 0], "0 is not possible"),
        (["--faster", 2, "--elements", "Xx"], "'Xx' is no chemical symbol"),
        (
            ["--faster", 2, "--elements", "H,C,O"],
            "mine.extxyz' has Si, which the result would not know: it knows H,C,O.",
        ),
        (["--faster", 2, "--elements", "H,C,O,Si,U"], "U"),
        (["--faster", 2, "--heads", "PBE"], "head"),
        (["--faster", 2, "--copies", 0], "8 structures with 0 copies of each are too few: 10 are needed"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(
    cli: Run, data: Path, tmp_path: Path, words: Sequence[object], says: str
) -> None:
    ran = cli("compress", "toy", "--data", data, *words, "-o", tmp_path / "out")
    assert ran.code == 2
    assert says in ran.err
    assert not (tmp_path / "out").exists()


def test_elements_that_a_model_would_meet_hours_later_are_refused(cli: Run, data: Path, tmp_path: Path) -> None:
    water = Atoms("H2O", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    test, bare, other = tmp_path / "test.extxyz", tmp_path / "water.extxyz", tmp_path / "other"
    ase.io.write(test, list(ep.label(ep.load("toy"), probe_structures([1, 6, 8, 14], 5).values())), format="extxyz")
    ase.io.write(bare, [water] * 4, format="extxyz")
    assert cli("prune", "toy", "--elements", "H,O", "-o", other).code == 0
    common = ["--faster", 2, "-o", tmp_path / "out", "--dry-run"]
    for words, says in (
        (
            ["--data", bare, "--test", test, "--elements", "H,O"],
            "test.extxyz' has C,Si, which the result would not know",
        ),
        (["--data", data, "--beside", other], f"has C,Si, which '{other}' would not know: it knows H,O."),
    ):
        ran = cli("compress", "toy", *words, *common)
        assert ran.code == 2
        assert says in ran.err
    assert cli("compress", "toy", "--data", bare, "--elements", "H,O", "--beside", other, *common).code == 0


@pytest.mark.parametrize("command", ["compress", "search"])
def test_memory_is_limited_only_where_it_can_be_measured(
    cli: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("equiprune.evaluation.places.measures_each_peak", lambda: False)
    ran = cli(command, "toy", "--data", data, "--memory", "8GB", "--atoms", 5000, "-o", tmp_path / "out.json")
    assert ran.code == 2
    assert ran.err.startswith("equiprune: What fits into a memory can be found on a CPU only where")
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_a_preset_that_weighs_stress_is_refused_for_models_without_it(
    cli: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Architecture, "direct_forces", True)
    words = ["compress", "toy", "--data", data, "--faster", 2, "-o", tmp_path / "out", "--dry-run"]
    assert cli(*words, "--preset", "escn").code == 0
    refused = cli(*words)
    assert refused.code == 2
    assert "--preset sevennet gives stress a weight, and toy models have none" in refused.err


def test_structures_and_models_that_are_not_there_are_refused(cli: Run, data: Path, tmp_path: Path) -> None:
    for words, says in (
        (["toy", "--data", tmp_path / "none.extxyz"], "none.extxyz"),
        ([tmp_path / "none.pth", "--data", data], "none.pth"),
    ):
        ran = cli("compress", *words, "--faster", 2, "-o", tmp_path / "out")
        assert ran.code == 2
        assert says in ran.err
        assert ran.err.count("\n") == 1
        assert not (tmp_path / "out").exists()
