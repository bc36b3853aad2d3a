"""fairchem's files come in as fairchem reads them, go out bit for bit, and what is not eSCN is refused by name."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from random_escn import normalised, random_checkpoint
from torch import Tensor

import equiprune as ep
from equiprune.adapters import Checkpoint
from equiprune.adapters.escn import EscnAdapter, export, upstream
from equiprune.adapters.escn import build as modules
from equiprune.adapters.escn.architecture import EscnArchitecture, Grid
from equiprune.errors import CheckpointError, OutputError

Content = dict[str, Any]


@pytest.fixture(scope="session")
def written(model: ep.Potential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model as fairchem's file."""
    return ep.save(model, tmp_path_factory.mktemp("written") / "small.pt")[0]


@pytest.fixture
def content(written: Path) -> Content:
    """What is in that file."""
    return torch.load(written, weights_only=True)


@pytest.fixture
def reread(tmp_path: Path) -> Callable[[Content], Checkpoint]:
    """A file with this content, read."""

    def read(content: Content) -> Checkpoint:
        torch.save(content, tmp_path / "changed.pt")
        return ep.read_checkpoint(tmp_path / "changed.pt")[1]

    return read


def assert_same(weights: Any, expected: Any) -> None:
    assert weights.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(weights[name], expected[name])] == []


# Round trips.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.supports("eSCN (random weights)", "exports")
def test_what_is_saved_is_what_is_loaded(dtype: torch.dtype, tmp_path: Path) -> None:
    """Hyperparameters, normalizers, licence, history and every bit of the weights."""
    checkpoint = random_checkpoint(normalised(), dtype=dtype)
    ep.save(ep.Potential.create(EscnAdapter(), checkpoint, dtype), tmp_path / "x.pt")
    assert EscnAdapter().recognises(tmp_path / "x.pt")
    found = ep.read_checkpoint(tmp_path / "x.pt")[1]
    assert found.architecture == checkpoint.architecture
    assert (found.licence, found.history) == ("MIT", ({"step": "made"},))
    assert len(found.sha256) == 64
    assert_same(found.weights, checkpoint.weights)


def test_layers_keep_the_numbers_they_had_in_the_unpruned_model(model: ep.Potential, tmp_path: Path) -> None:
    arch = replace(normalised(layers=2), layers=(0, 2))
    potential = ep.Potential.create(EscnAdapter(), random_checkpoint(arch, dtype=torch.float32), torch.float32)
    ep.save(potential, tmp_path / "x.pt")
    assert ep.load(tmp_path / "x.pt").architecture.layers == (0, 2)


def test_every_layer_of_the_test_model_contributes(model: ep.Potential) -> None:
    """Otherwise an error in one would stay unseen."""
    structures = list(ep.probe_structures(model.elements).values())
    energies = [p.energy for p in model.predict(structures)]
    for k in range(3):
        weights = {n: w.clone() for n, w in model.checkpoint.weights.items()}
        weights[f"layer_blocks.{k}.fc3_sphere.weight"] *= 0.5
        changed = ep.Potential.create(model.adapter, replace(model.checkpoint, weights=weights), torch.float32)
        differences = [abs(p.energy - e) for p, e in zip(changed.predict(structures), energies, strict=True)]
        assert max(differences) > 1e-4


@pytest.mark.supports("eSCN (random weights)", "opens")
def test_the_stock_class_gives_our_energies(tmp_path: Path) -> None:
    potential = ep.Potential.create(EscnAdapter(), random_checkpoint(normalised()), torch.float64)
    ep.save(potential, tmp_path / "x.pt")
    structures = list(ep.probe_structures(potential.elements).values())
    stock = potential.adapter.stock_energies(tmp_path / "x.pt", structures, None)
    ours = [p.energy.item() for p in potential.predict(structures)]
    assert stock == pytest.approx(ours, abs=1e-10)
    assert max(abs(energy - potential.architecture.energy_mean) for energy in ours) > 1e-3


def test_a_file_that_the_stock_class_evaluates_differently_is_not_saved(
    model: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {target: {"mean": 0.0, "rmsd": 1.0} for target in ("energy", "forces")}
    monkeypatch.setattr(export, "_normalizers", lambda arch: wrong)
    with pytest.raises(OutputError, match="hyperparameters differ"):
        ep.save(model, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def test_upstreams_class_loads_an_exported_file_strictly(content: Content) -> None:
    """As `load_model_and_weights_from_checkpoint` in fairchem/core/common/utils.py does."""
    arguments = dict(content["config"]["model"])
    assert arguments.pop("name") == "escn"
    model = upstream.classes().eSCN(**arguments)
    model.load_state_dict({k.removeprefix("module."): v for k, v in content["state_dict"].items()}, strict=True)


def test_the_recipe_beside_the_file_trains_this_model(written: Path, content: Content) -> None:
    recipe = yaml.safe_load(written.with_suffix(".yml").read_text())
    assert recipe["model"] == content["config"]["model"]
    normalizers = recipe["dataset"]["train"]["transforms"]["normalizer"]
    assert normalizers == {key: {k: v.item() for k, v in s.items()} for key, s in content["normalizers"].items()}
    assert (recipe["optim"]["optimizer"], recipe["optim"]["lr_initial"]) == ("AdamW", 8e-4)
    assert f"--config-yml {written.stem}.yml --checkpoint {written.name}" in written.with_suffix(".yml").read_text()


def test_a_model_on_its_parents_points_is_saved_to_a_directory_only(tmp_path: Path) -> None:
    arch = replace(normalised(), node_grid=Grid(14, 15))
    potential = ep.Potential.create(EscnAdapter(), random_checkpoint(arch, dtype=torch.float32), torch.float32)
    with pytest.raises(OutputError, match=r"points on the sphere.*`native_grids`.*directory"):
        ep.save(potential, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []
    ep.save(potential, tmp_path / "x")
    assert ep.load(tmp_path / "x").architecture == arch


# What fairchem reads.


def old_layout(content: Content) -> Content:
    """As ocp wrote configs before fairchem: the arguments beside the name of the model."""
    model = dict(content["config"].pop("model"))
    return content | {"config": content["config"] | {"model": model.pop("name"), "model_attributes": model}}


def prefixed(prefix: str) -> Callable[[Content], Content]:
    """As one or another wrapper for several processes names weights."""

    def change(content: Content) -> Content:
        state = {prefix + name.removeprefix("module."): tensor for name, tensor in content["state_dict"].items()}
        return content | {"state_dict": state}

    return change


def without_points_of_distance(content: Content) -> Content:
    state = {name: tensor for name, tensor in content["state_dict"].items() if not name.endswith("offset")}
    return content | {"state_dict": state}


def old_normalizers(content: Content) -> Content:
    energy, forces = (content["normalizers"][name] for name in ("energy", "forces"))
    old = {
        "target": {"mean": energy["mean"].item(), "std": energy["rmsd"]},
        "grad_target": {"mean": np.float64(0.0), "std": forces["rmsd"]},
    }
    return content | {"normalizers": old}


def with_training_state(content: Content) -> Content:
    """What a run that can go on also writes, numbers of numpy among it."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], amsgrad=True)
    metrics = {"forces_mae": {"metric": np.float32(0.1), "total": np.array([1.0, 2.0])}}
    return content | {"optimizer": optimizer.state_dict(), "val_metrics": metrics, "best_val_metric": np.float64(1)}


@pytest.mark.parametrize(
    "change",
    [
        old_layout,
        prefixed(""),
        prefixed("module.module."),
        prefixed("_orig_mod."),
        prefixed("module._orig_mod.module."),
        without_points_of_distance,
        old_normalizers,
        with_training_state,
    ],
)
def test_files_of_every_age_read_alike(
    change: Callable[[Content], Content],
    content: Content,
    model: ep.Potential,
    reread: Callable[[Content], Checkpoint],
) -> None:
    found = reread(change(content))
    assert found.architecture == model.architecture
    assert_same(found.weights, model.checkpoint.weights)


def test_arguments_that_are_not_given_are_upstreams_defaults(tmp_path: Path) -> None:
    arch = normalised(lmax=6, channels=128, hidden=256, edge=128, cutoff=8.0, samples=128, elements=89, layers=1)
    arch = replace(arch, resolution=0.02, max_neighbors=40)
    content = export.content(random_checkpoint(arch, dtype=torch.float32))
    torch.save(content | {"config": {"model": {"name": "escn", "num_layers": 1}}}, tmp_path / "x.pt")
    assert ep.read_checkpoint(tmp_path / "x.pt")[1].architecture == arch


def test_one_resolution_for_all_points_is_kept(content: Content, reread: Callable[[Content], Checkpoint]) -> None:
    content["config"]["model"]["resolution"] = 14
    found = reread(content)
    assert (found.architecture.message_grid, found.architecture.node_grid) == (Grid(14, 14), Grid(14, 14))
    built = modules.build(found.architecture, torch.float32)
    stock = upstream.classes().eSCN(**modules.arguments(found.architecture))
    for m in (2, 3):
        ours, theirs = (model.SO3_grid[3][m].get_to_grid_mat(torch.device("cpu")) for model in (built, stock))
        assert torch.equal(ours, theirs)


def test_a_file_of_fairchems_own_says_nothing_of_its_licence(
    content: Content, reread: Callable[[Content], Checkpoint]
) -> None:
    del content["equiprune"]
    found = reread(content)
    assert found.licence.startswith("unknown")
    assert found.history == ()


def averaged(content: Content, arch: EscnArchitecture, decay: float | None) -> tuple[Content, dict[str, Tensor]]:
    """With other values as moving averages, made as upstream makes them, and those values by name."""
    trained = [(n, p) for n, p in modules.build(arch, torch.float32).named_parameters() if p.requires_grad]
    averages = {name: torch.rand_like(p) for name, p in trained}
    ema = {"decay": 0.999, "num_updates": None, "shadow_params": list(averages.values()), "collected_params": []}
    return content | {"ema": ema, "config": content["config"] | {"optim": {"ema_decay": decay}}}, averages


def test_moving_averages_are_the_weights_of_a_run_that_kept_them(
    content: Content, model: ep.Potential, reread: Callable[[Content], Checkpoint]
) -> None:
    changed, averages = averaged(content, model.architecture, 0.999)
    assert_same(reread(changed).weights, {**model.checkpoint.weights, **averages})


def test_moving_averages_that_the_config_does_not_ask_for_are_left(
    content: Content, model: ep.Potential, reread: Callable[[Content], Checkpoint]
) -> None:
    changed, _ = averaged(content, model.architecture, None)
    assert_same(reread(changed).weights, model.checkpoint.weights)


# Refusals.


def refusal(path: Path) -> str:
    """The message of the error, which names the file."""
    with pytest.raises(CheckpointError) as caught:
        EscnAdapter().read(path)
    assert f"'{path}'" in str(caught.value)
    return str(caught.value)


def model(**changes: Any) -> Callable[[Content], Any]:
    return lambda content: content["config"]["model"].update(changes)


def weights(**changes: Any) -> Callable[[Content], Any]:
    return lambda content: content["state_dict"].update(changes)


def normalizer(target: str, **values: float) -> Callable[[Content], Any]:
    return lambda content: content["normalizers"].update({target: values})


def without(name: str) -> Callable[[Content], Any]:
    return lambda content: content.pop(name) and None


def too_few_averages(content: Content) -> Content:
    changed, _ = averaged(content, normalised(), 0.999)
    changed["ema"]["shadow_params"].pop()
    return changed


FOREIGN: dict[str, tuple[Callable[[Content], Any], list[str]]] = {
    "a list": (lambda content: [1, 2], ["holds a list", "Give a .pt of an eSCN model"]),
    "no config": (without("config"), ["it lacks 'config'", "Give a .pt"]),
    "no weights": (without("state_dict"), ["a config but no weights"]),
    "no normalizers": (without("normalizers"), ["it lacks 'normalizers'"]),
    "UMA": (lambda content: {"model_config": {}, "model_state_dict": {}}, ["fairchem-core 2", "UMA"]),
    "another model": (model(name="equiformer_v2"), ["its model is 'equiformer_v2'; only 'escn'"]),
    "a backbone": (model(name="hydra"), ["'hydra', a backbone with heads"]),
    "escn_md": (model(name="fairchem.core.models.uma.escn_md.eSCNMDBackbone"), ["fairchem-core 2"]),
    "an argument of another version": (model(num_heads=8), ["['num_heads']", "fairchem-core 1.10"]),
    "resolutions": (model(lmax_list=[6, 4], mmax_list=[2, 2]), ["its lmax_list is [6, 4]", "one resolution"]),
    "another lmax": (
        model(lmax_list=[2]),
        ["do not fit its config", "is (7, 24), not (7, 18)", "; ..."],
    ),
    "no lmax": (model(lmax_list=None), ["do not fit its config"]),
    "orders above lmax": (model(mmax_list=[4]), ["its mmax is 4; it can be 0 to 3"]),
    "no forces": (model(regress_forces=False), ["no forces", "regress_forces"]),
    "elements that are none": (model(max_num_elements=150), ["max_num_elements is 150; it can be 2 to 119"]),
    "an unknown function of distance": (
        model(distance_function="bessel"),
        ["distance_function is 'bessel'; supported are gaussian, sigmoid, linearsigmoid"],
    ),
    "a function of distance with weights": (model(distance_function="silu"), ["distance_function is 'silu'"]),
    "no limit of neighbours": (model(max_neighbors=0), ["max_neighbors is 0", "takes as no limit"]),
    "more layers": (model(num_layers=4), ["layer_blocks.3", "is missing, not (", "; ..."]),
    "another shape": (
        weights(**{"module.sphere_embedding.weight": torch.zeros(3, 8)}),
        ["sphere_embedding.weight is (3, 8), not (31, 6)"],
    ),
    "an extra weight": (weights(**{"module.extra": torch.zeros(1)}), ["extra is (1,), not expected"]),
    "a mean of forces": (normalizer("forces", mean=0.1, rmsd=1.0), ["a mean of forces"]),
    "not a number": (normalizer("energy", mean=0.0, rmsd=float("nan")), ["not finite"]),
    "energies of elements": (
        lambda content: content.update(elementrefs={"energy": {"element_references": torch.ones(9)}}),
        ["energies of elements"],
    ),
    "averages of another model": (too_few_averages, ["moving averages ('ema') of"]),
    "layers that cannot be": (
        lambda content: content.update(equiprune='{"layers": [0, 2, 1]}'),
        ["numbered (0, 2, 1)"],
    ),
    "damaged provenance": (
        lambda content: content.update(equiprune="{"),
        ["not an eSCN checkpoint", "JSONDecodeError"],
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_such_a_model_is_refused_by_name(name: str, content: Content, tmp_path: Path) -> None:
    change, says = FOREIGN[name]
    torch.save(change(content) or content, tmp_path / "x.pt")
    message = refusal(tmp_path / "x.pt")
    assert [words for words in says if words not in message] == [], message


@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_a_truncated_file_is_refused(kept: float, written: Path, tmp_path: Path) -> None:
    whole = written.read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: int(kept * len(whole))])
    assert "may be truncated" in refusal(tmp_path / "x.pt")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "There is no file" in refusal(tmp_path / "none.pt")


class _Hostile:
    """A pickle of this writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_refused_and_not_run(content: Content, tmp_path: Path) -> None:
    torch.save({**content, "hostile": _Hostile(tmp_path / "touched")}, tmp_path / "x.pt")
    message = refusal(tmp_path / "x.pt")
    assert "runs code" in message
    assert "`trust`" in message
    assert not (tmp_path / "touched").exists()


def test_trust_opens_it(content: Content, tmp_path: Path, model: ep.Potential) -> None:
    torch.save({**content, "hostile": _Hostile(tmp_path / "touched")}, tmp_path / "x.pt")
    assert ep.read_checkpoint(tmp_path / "x.pt", trust=True)[1].architecture == model.architecture
    assert (tmp_path / "touched").exists()


def test_the_classes_of_fairchem_2_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its published files hold."""
    name = "fairchem.core.units.mlip_unit.api.inference"
    kind = type("MLIPInferenceCheckpoint", (), {"__module__": name})
    module = ModuleType(name)
    setattr(module, kind.__name__, kind)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, name, module)
        torch.save(kind(), tmp_path / "x.pt")
    message = refusal(tmp_path / "x.pt")
    assert "fairchem-core 2 (UMA, eSEN)" in message
    assert "`trust`" not in message
