"""The commands from Python: one call does what the command line does, and says it as a value."""

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ase.io
import pytest
from command_line import Run, contents

import equiprune as ep
from equiprune import commands
from equiprune.cli.results import SHOWN
from equiprune.commands import (
    CopyOptions,
    GrowthOptions,
    ProbeOptions,
    ProcessOptions,
    RecipeOptions,
    SampleOptions,
    ScoreOptions,
    TargetOptions,
    TheoryOptions,
    WeightOptions,
)
from equiprune.commands.options.values import hints_of
from equiprune.commands.request import Request
from equiprune.errors import EquipruneError, OutputError, TargetError
from equiprune.progress import Progress, Task
from equiprune.structures.probes import probe_structures

SMALL = {"target": TargetOptions(channels=4), "importance": ScoreOptions(criterion="magnitude")}


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Four structures without labels, by a path that is text."""
    ase.io.write(tmp_path / "data.xyz", list(probe_structures([1, 6, 8, 14]).values()), format="extxyz")
    return str(tmp_path / "data.xyz")


@pytest.fixture
def labelled(data: str, tmp_path: Path) -> str:
    """The same with labels."""
    return str(commands.Label("toy", data, output=tmp_path / "labelled.extxyz").run().path)


@pytest.mark.slow
def test_label_prune_and_train_are_one_call_each(
    data: str, tmp_path: Path, cli: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the results, and the very files, of the command line."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    here, there = str(tmp_path / "here"), tmp_path / "there"
    label = ep.commands.Label("toy", data, output=f"{here}/labelled.extxyz", copy=CopyOptions(copies=1)).run()
    prune = ep.commands.Prune("toy", output=f"{here}/small", **SMALL).run()
    train = ep.commands.Train(
        f"{here}/small", data=f"{here}/labelled.extxyz", output=f"{here}/run", recipe=RecipeOptions(epochs=2)
    ).run()
    assert capsys.readouterr() == ("", "")
    assert train is not None
    assert (label.structures, ep.load(train.files["model"]).parameters()) == (8, prune.child.parameters())
    lines: list[tuple[Any, tuple[object, ...]]] = [
        (label, ("label", "toy", data, "-o", there / "labelled.extxyz", "--copies", 1)),
        (prune, ("prune", "toy", "-o", there / "small", "--channels", 4, "--criterion", "magnitude")),
        (train, ("train", there / "small", "--data", there / "labelled.extxyz", "-o", there / "run", "--epochs", 2)),
    ]
    for result, words in lines:
        assert like(result.to_json()) == like(cli(*words, "--json").json)
    for name in ("labelled.extxyz", "small/weights.safetensors", "run/model/weights.safetensors"):
        assert Path(here, name).read_bytes() == (there / name).read_bytes()


def like(value: Any) -> Any:
    """The same without the folder it is in, as JSON reads it."""
    if isinstance(value, str):
        return value.replace("/here/", "/there/")
    if isinstance(value, dict):
        return {key: like(item) for key, item in value.items()}
    return [like(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.slow
def test_every_other_command_says_what_its_json_says(labelled: str, tmp_path: Path, cli: Run) -> None:
    scores, child = str(tmp_path / "scores.json"), str(tmp_path / "child")
    commands.Prune("toy", output=child, **SMALL).run()
    models = ["toy", child]
    pairs: list[tuple[Request[Any], tuple[object, ...]]] = [
        (commands.Info("toy"), ("info", "toy")),
        (commands.Evaluate(models, data=labelled), ("evaluate", *models, "--data", labelled)),
        (commands.Stability(*models[:1], "toy", data=labelled), ("stability", "toy", "toy", "--data", labelled)),
        (commands.Certify(child, nve_steps=2), ("certify", child, "--nve-steps", 2)),
    ]
    for request, words in pairs:
        ran = cli(*words, "--json")
        assert request.run().to_json() == ran.json, ran.err
    calibrated = commands.Calibrate("toy", labelled, output=scores).run()
    assert calibrated.to_json()["written"] == [scores]
    assert commands.Export("toy", output=tmp_path / "toy").run().to_json() == {"written": [str(tmp_path / "toy")]}
    timed = commands.Benchmark(["toy"], data=labelled, repeats=1).run().to_json()
    assert timed[0].keys() == cli("benchmark", "toy", "--data", labelled, "--repeats", 1, "--json").json[0].keys()


def test_text_and_paths_are_taken_for_each_other_in_lists_too() -> None:
    assert commands.Certify("toy", results=["a.json"]).results == [Path("a.json")]
    assert commands.Evaluate([Path("a"), "toy"], data="x").models == ["a", "toy"]


def test_remarks_go_to_the_logger(data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "equiprune"):
        commands.Calibrate("toy", data, output=tmp_path / "scores.json", criterion="magnitude").run()
    assert caplog.messages == [f"The magnitude criterion looks at no structures; '{data}' is not read."]
    assert {record.name for record in caplog.records} == {"equiprune"}


def test_a_display_is_told_of_tasks_and_steps(data: str, tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    @contextmanager
    def display(*tasks: Task) -> Iterator[Sequence[Progress]]:
        yield [lambda count, task=task: told.append((f"{task.label} of {task.total}", count)) for task in tasks]

    commands.Label("toy", data, output=tmp_path / "labelled.extxyz", limit=3).run(display)
    assert {name for name, _ in told} == {"label of 3"}
    assert sum(count for _, count in told) == 3


REFUSED: list[tuple[type[Any], dict[str, Any], str]] = [
    (commands.Label, {"model": "toy", "data": "x", "output": "a.txt"}, ".extxyz or .xyz, not '.txt'"),
    (commands.Label, {"model": "a:b", "data": "x", "output": "a.xyz", "dtype": "float64"}, "calculator, and `dtype`"),
    (commands.Label, {"model": "a:b", "data": "x", "output": "a.xyz", "options": "["}, "`options` '[' is not JSON"),
    (commands.Label, {"model": "toy", "data": "x", "output": "a.xyz", "device": "cuda:77"}, "`device` cuda:77 is not"),
    (commands.Label, {"model": "toy", "data": "x", "output": "a.xyz", "limit": 0}, "`limit` 0 is not possible"),
    (commands.Calibrate, {"model": "toy", "output": "a"}, "give `data` after the model"),
    (commands.Calibrate, {"model": "toy", "output": "a.png", "plot": "a.png"}, "both the scores and the plot"),
    (commands.Prune, {"model": "toy", "output": "a"}, "Say what to reach: `irreps`"),
    (commands.Prune, {"model": "toy", "output": "a", "target": TargetOptions(lmax=1), "device": "cuda:77"}, "`device`"),
    (commands.Train, {"model": "toy", "data": "x", "output": "a.pth"}, "A run is a directory"),
    (commands.Certify, {"model": "toy", "output": "a.txt"}, ".json or .md, not '.txt'"),
    (commands.Evaluate, {"models": ["toy", "toy"], "data": "x"}, "named twice: toy, toy"),
    (commands.Benchmark, {"models": ["toy"], "dtype": "float16"}, "`dtype` 'float16' is not possible: give float32"),
    (commands.Benchmark, {"models": ["toy"], "sizes": [8, 8, 64]}, "`sizes` 8, 8, 64: a line with an error bar needs"),
    (commands.Benchmark, {"models": ["toy"], "sizes": [0, 8, 64]}, "`sizes` 0 is not possible"),
    (commands.Benchmark, {"models": ["toy"], "plot": "a.png"}, "`plot` draws time against number of atoms: give"),
    (commands.Benchmark, {"models": ["toy"], "sizes": [8, 64, 512], "plot": "a.pdf"}, ".png or .svg, not '.pdf'"),
    (commands.Benchmark, {"models": ["toy"], "largest_batch": True}, "give `memory`, such as 8GB"),
    (commands.Benchmark, {"models": ["toy"], "memory": "8GB"}, "`memory` is what the largest batch, or `atoms`, may"),
    (commands.Benchmark, {"models": ["toy"], "memory": "8", "largest_batch": True}, "`memory` '8' is no amount"),
    (commands.Benchmark, {"models": ["toy"], "precision": ["bf16"]}, "`precision` bf16 is arithmetic of CUDA GPUs"),
    (commands.Benchmark, {"models": ["toy"], "precision": ["tf32"]}, "models are on cpu. There is only float32."),
    (commands.Benchmark, {"models": ["toy"], "precision": ["fp8"]}, "`precision` 'fp8' is not possible: give float32"),
    (commands.Stability, {"before": "a.json", "after": "toy"}, "cannot be compared"),
    (commands.Stability, {"before": "a", "after": "b"}, "give `data`"),
    (commands.Stability, {"before": "a.json", "after": "b.json", "top": 1.0}, "`top` 1.0 is not possible"),
    (TargetOptions, {"floor": 2.0}, "`floor` 2.0 is not possible"),
    (TargetOptions, {"irreps": "4x0q"}, "4x0q"),
    (ScoreOptions, {"scores": "a", "data": "b"}, "leave out `data` and `criterion`"),
    (ScoreOptions, {"limit": 2}, "`limit` counts the structures of `data`"),
    (ScoreOptions, {"criterion": "best"}, "`criterion` 'best' is not possible: give activation"),
    (GrowthOptions, {"reinitialise": True}, "`grow_radial_basis` or `nonlinear_readout`"),
    (ProbeOptions, {"hessian_rows": 1, "hessian_probes": 1}, "`hessian_rows` and `hessian_probes`"),
    (SampleOptions, {"structure_key": "traj"}, "`frames_per_structure` and `validation_share`"),
    (RecipeOptions, {"preset": "best"}, "`preset` 'best' is not possible"),
    (RecipeOptions, {"rates": ["a"]}, "`rates` 'a' is no pattern and factor"),
    (WeightOptions, {"energy_weight": -1.0}, "`energy_weight` -1.0 is not possible"),
    (WeightOptions, {"hessian_samples": 2}, "`hessian_samples` counts what `hessian_weight` weighs"),
    (TheoryOptions, {"replay_share": 0.5}, "give `replay` or leave it out"),
]


@pytest.mark.parametrize(("made", "fields", "says"), REFUSED, ids=lambda value: getattr(value, "__name__", None))
def test_what_cannot_be_done_cannot_be_constructed(made: type[Any], fields: dict[str, Any], says: str) -> None:
    with pytest.raises((TargetError, OutputError)) as caught:
        made(**fields)
    assert says in str(caught.value)
    assert "--" not in str(caught.value)


def test_options_that_contradict_each_other_are_refused_together() -> None:
    how: dict[str, Any] = {"model": "toy", "data": "x.xyz", "output": "run"}
    for more, says in [
        ({"recipe": RecipeOptions(patience=3)}, "`patience` waits"),
        ({"theory": TheoryOptions(scale="rms-forces")}, "It is for `from_scratch`"),
        ({"sample": SampleOptions(validation_share=0.1), "validation": "y.xyz"}, "two ways to the same"),
        ({"sample": SampleOptions(frames_per_structure=2)}, "needs `structure_key`, the info entry"),
        ({"processes": ProcessOptions(device="cuda", devices=99)}, "`devices` 99 needs as many GPUs"),
    ]:
        with pytest.raises(TargetError, match=says):
            commands.Train(**how, **more)
    target, growth = TargetOptions(lossless=True), GrowthOptions(native_grids=True)
    with pytest.raises(TargetError, match="`native_grids` changes the function"):
        commands.Prune("toy", output="a", target=target, growth=growth)


def test_text_and_paths_are_the_same(tmp_path: Path) -> None:
    text, path = "labelled.extxyz", Path("labelled.extxyz")
    requests = [commands.Train(given, data=given, output=given) for given in (text, path)]  # type: ignore[arg-type]
    assert requests[0] == requests[1]
    assert (requests[0].model, requests[0].data) == (text, path)
    assert TheoryOptions(references="keep").references == "keep"
    assert TheoryOptions(references="atoms.json").references == Path("atoms.json")  # type: ignore[arg-type]


def test_every_command_is_shown_and_says_what_its_fields_are() -> None:
    requests = {value for value in vars(commands).values() if inspect.isclass(value) and issubclass(value, Request)}
    assert SHOWN.keys() == requests - {Request}
    for request in SHOWN:
        described = inspect.getdoc(request) or ""
        own = [name for name in hints_of(request) if not isinstance(getattr(request, name, None), commands_options())]
        for name in set(own) - {"device"}:
            assert f"\n    {name}: " in described, (request, name)


def commands_options() -> tuple[type, ...]:
    """The groups of arguments, which are described where they are."""
    return tuple(value for name, value in vars(commands).items() if name.endswith("Options"))


def test_a_refused_request_leaves_nothing_behind(tmp_path: Path, data: str) -> None:
    before = contents(tmp_path)
    with pytest.raises(EquipruneError):
        commands.Prune("no such model", output=tmp_path / "small", **SMALL).run()
    assert contents(tmp_path) == before
