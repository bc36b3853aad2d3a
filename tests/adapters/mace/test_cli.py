"""The command line on small MACE files: what it writes opens again, and what it cannot do it says in one line."""

import io
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import ase.io
import pytest
import torch
from command_line import Ran, Run
from random_mace import KINDS, random_checkpoint, stock

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.build import upstream

pytestmark = pytest.mark.usefixtures("plain_code")

SYMBOLS = ["H", "O", "Na", "Si", "Cl", "Cu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """Two interactions, six channels, l up to 1, spherical harmonics up to 3; one channel of the embedding is dead."""
    checkpoint = random_checkpoint(stock(6, max_ell=3))
    embedding = checkpoint.weights["node_embedding.linear.weight"].clone()
    embedding.view(6, 6)[:, 2] = 0
    weights = {**checkpoint.weights, "node_embedding.linear.weight": embedding}
    return written(replace(checkpoint, weights=weights), folder / "parent.model")


@pytest.fixture(scope="module")
def two_heads(folder: Path) -> Path:
    return written(random_checkpoint(KINDS["density, ZBL, Agnesi, two heads, max_ell 3"]), folder / "two-heads.model")


def written(checkpoint: Any, path: Path) -> Path:
    MaceAdapter().export(checkpoint, path)
    return path


@dataclass(frozen=True)
class Pruned:
    path: Path
    ran: Ran


@pytest.fixture(scope="module")
def pruned(cli: Run, model: Path, folder: Path) -> Pruned:
    """What upstream's constructor can build, by data."""
    data, output = folder / "data.xyz", folder / "child.model"
    ase.io.write(data, list(ep.probe_structures([1, 8, 11, 14, 17, 29]).values()))
    targets = ("--channels", 4, "--elements", "Cu,O,Si", "--edge-lmax", 2, "--correlation", 2, "--radial-basis", 4)
    return Pruned(output, cli("prune", model, *targets, "--data", data, "-o", output, "--json"))


# What it does.


def test_info_describes_a_file(cli: Run, model: Path) -> None:
    value = cli("info", model, "--json").json
    module = MaceAdapter().build(stock(6, max_ell=3), torch.float64)
    assert value["parameters"] == {key: sum(p.numel() for p in module.parameters()) for key in ("all", "trainable")}
    assert (value["adapter"], value["licence"], value["steps"], value["dtype"]) == ("mace", "MIT", [], "float64")
    assert (value["elements"], value["heads"], value["cutoff"]) == (SYMBOLS, [], 4.5)
    assert "assembled" not in value
    assert value["hidden_irreps"] == ["6x0e", "6x0e+6x1o", "6x0e"]
    assert value["dead"]["node_feats.0"] == "1x0e"
    spaces = {space["name"]: (space["irreps"], space["tying"]) for space in value["spaces"]}
    assert spaces["a_basis.0"] == ("6x0e+6x1o+6x2e+6x3o", "across_l")
    assert spaces["correlation.1"][0] == "3x0e"
    assert "6x0e+6x1o+6x2e+6x3o" in cli("info", model).out


@pytest.mark.supports("MACE, other blocks and settings (random weights)", "cuts")
def test_prune_writes_a_file_that_info_reads(cli: Run, pruned: Pruned) -> None:
    ran, value = pruned.ran, cli("info", pruned.path, "--json").json
    assert (ran.code, ran.json["written"]) == (0, [str(pruned.path)])
    assert ran.json["trainable parameters"][1] == value["parameters"]["trainable"]
    assert ran.json["correlation.0"] == ["3x0e", "2x0e"]
    assert (value["elements"], value["steps"], value["licence"]) == (["Cu", "O", "Si"], ["prune"], "MIT")
    assert value["hidden_irreps"] == ["4x0e", "4x0e+4x1o", "4x0e"]


def test_the_written_file_is_upstreams_own_module(pruned: Pruned) -> None:
    """With the names and shapes that its constructor gives, and with energies that are those of the read model."""
    found = ep.load(pruned.path, dtype=torch.float64)
    assert found.architecture.stock
    with upstream(torch.float64):
        module = torch.load(pruned.path, weights_only=False)
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in found.module.state_dict().items()}
    assert type(module).__name__ == "ScaleShiftMACE"


@pytest.mark.supports("MACE, other blocks and settings (random weights)", "exact")
def test_certify_proves_it_against_its_parent(cli: Run, pruned: Pruned, model: Path) -> None:
    ran = cli("certify", pruned.path, "--parent", model, "--nve-steps", 2, "--json")
    assert (ran.code, ran.json["passed"]) == (0, True)
    assert all(0 <= value <= 1e-10 for value in ran.json["masked_vs_sliced"].values())
    assert ran.json["masked_vs_sliced"].keys() == {"energy", "forces", "stress"}
    assert ran.json["stored_weights"] == 0


def test_certify_fails_for_a_tampered_file(cli: Run, pruned: Pruned, model: Path, tmp_path: Path) -> None:
    """One bit of one weight."""
    with zipfile.ZipFile(pruned.path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    changed = ep.read_checkpoint(pruned.path)[1].weights["interactions.1.linear.weight"].numpy().tobytes()
    with zipfile.ZipFile(tmp_path / "tampered.model", "w") as archive:
        for name, content in records.items():
            archive.writestr(name, bytes([content[0] ^ 1]) + content[1:] if content == changed else content)
    ran = cli("certify", tmp_path / "tampered.model", "--parent", model, "--nve-steps", 1, "--json")
    assert (ran.code, ran.json["passed"]) == (1, False)
    assert 0 < ran.json["stored_weights"] < 1e-9


def test_certify_with_a_stranger_is_refused(pruned: Pruned, two_heads: Path, refused_in_one_line: Run) -> None:
    refused_in_one_line("certify", pruned.path, "--parent", two_heads, says=("was not pruned from", "Give the file"))


@pytest.mark.supports("MACE, other blocks and settings (random weights)", "exports")
def test_export_there_and_back_keeps_everything(cli: Run, pruned: Pruned, tmp_path: Path) -> None:
    """To equiprune's own directory, which needs no MACE, and to a ``.model`` again."""
    native, again = tmp_path / "native", tmp_path / "again.model"
    assert cli("export", pruned.path, "-o", native, "--json").json["written"] == [str(native)]
    assert cli("export", native, "-o", again, "--json").json["written"] == [str(again)]
    first, *others = (ep.read_checkpoint(path)[1] for path in (pruned.path, native, again))
    for other in others:
        assert (other.architecture, other.licence, other.history) == (first.architecture, "MIT", first.history)
        assert all(torch.equal(weight, other.weights[name]) for name, weight in first.weights.items())


def test_growing_is_recorded_and_changes_nothing(cli: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "grown.model"
    flags = ("--interactions", 1, "--nonlinear-readout", 3, "--grow-radial-basis", 7)
    ran = cli("prune", model, *flags, "-o", output, "--json")
    assert (ran.code, ran.json["radial_basis"]) == (0, ["5x0e", "7x0e"])
    assert cli("info", output, "--json").json["steps"] == ["prune", "grow", "grow"]
    ran = cli("certify", output, "--parent", model, "--nve-steps", 1, "--json")
    assert (ran.code, ran.json["passed"]) == (0, True)
    assert {"functions": 7, "kind": "grow_radial_basis", "preserve": True, "seed": 0} in [
        step.get("growth") for step in ep.read_checkpoint(output)[1].history
    ]


def test_reinitialise_draws_by_the_seed(cli: Run, model: Path, tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    for path, seed in ((first, 1), (again, 1), (other, 2)):
        flags = ("--interactions", 1, "--nonlinear-readout", 3, "--reinitialise", "--seed", seed)
        assert cli("prune", model, *flags, "-o", path).code == 0
    weights = [ep.read_checkpoint(path)[1].weights["readouts.0.linear_1.weight"] for path in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_lossless_removes_the_dead_channel_and_proves_it(cli: Run, model: Path, tmp_path: Path) -> None:
    ran = cli("prune", model, "--lossless", "-o", tmp_path / "x.model")
    assert ran.code == 0, ran
    assert "Lossless, proven in float64; largest differences: energy" in ran.text
    assert "There was nothing to remove" not in ran.text
    assert ep.read_checkpoint(tmp_path / "x.model")[1].architecture.channels == 5


def test_targets_that_remove_more_are_not_lossless(model: Path, tmp_path: Path, refused_in_one_line: Run) -> None:
    words = ("prune", model, "--lossless", "--correlation", 2, "-o", tmp_path / "x.model")
    refused_in_one_line(*words, says=("not lossless", "Leave out --lossless"))


def test_heterogeneous_says_which_tools_open_it(cli: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.model"
    flags = ("--irreps", "4x0e,5x0e+2x1o,3x0e", "--edge-lmax", "3,2", "--heterogeneous", "--criterion", "magnitude")
    ran = cli("prune", model, *flags, "-o", output)
    assert ran.code == 0, ran
    assert "Assembled from mace's own blocks, because its constructor cannot build it: numbers of channels" in ran.text
    assert "runs in the calculator" in ran.text
    assert "fine-tuning, accelerated kernels" in ran.text
    value = cli("info", output, "--json").json
    assert value["hidden_irreps"] == ["4x0e", "5x0e+2x1o", "3x0e"]
    assert value["assembled"] == "numbers of channels differ"


def test_a_uniform_model_needs_no_such_word(cli: Run, model: Path, tmp_path: Path) -> None:
    ran = cli("prune", model, "--channels", 3, "--criterion", "random", "-o", tmp_path / "x")
    assert (ran.code, "Assembled" in ran.out) == (0, False)
    assert "needs retraining before use" in ran.text


@pytest.mark.supports("MACE of several heads (random weights)", "opens")
@pytest.mark.supports("MACE of several heads (random weights)", "cuts")
@pytest.mark.supports("MACE of several heads (random weights)", "exports")
def test_one_of_two_heads_is_left(cli: Run, two_heads: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.model"
    assert cli("prune", two_heads, "--heads", "r2scan", "-o", output).code == 0
    assert cli("info", output, "--json").json["heads"] == []
    ran = cli("certify", output, "--parent", two_heads, "--nve-steps", 1, "--json")
    assert (ran.code, ran.json["masked_vs_sliced"]["energy"] < 1e-10) == (0, True)


# What it cannot do.


IMPOSSIBLE: dict[str, tuple[list[object], tuple[str, ...]]] = {
    "more channels": (["--channels", 500], ("--channels 500", "1 to 6")),
    "no channels": (["--channels", 0], ("--channels 0", "1 to 6")),
    "higher correlation": (["--correlation", 9], ("--correlation 9", "1 to 3")),
    "three correlations": (["--correlation", "3,2,1"], ("--correlation", "one number or 2, not 3")),
    "a correlation of its own": (["--correlation", "3,2"], ("differ in correlation", "--heterogeneous")),
    "harmonics of its own": (["--edge-lmax", "3,2"], ("differ in max_ell", "--heterogeneous")),
    "higher harmonics": (["--edge-lmax", 9], ("--edge-lmax 9", "0 to 3")),
    "harmonics that are no number": (["--edge-lmax", "two"], ("--edge-lmax", "two")),
    "scalar A-basis": (["--basis-lmax", 0], ("--basis-lmax 0", "1 to 3")),
    "an A-basis without the l of the edges": (["--basis-lmax", 2], ("A-basis", "--heterogeneous")),
    "no interactions": (["--interactions", 0], ("--interactions 0", "1 to 2")),
    "more interactions": (["--interactions", 7], ("--interactions 7", "1 to 2")),
    "unequal channels": (["--irreps", "4x0e+2x1o"], ("one number of channels", "2, 4", "--heterogeneous")),
    "more of one irrep": (["--irreps", "9x0e+9x1o"], ("9x0e", "6x0e+6x1o")),
    "l beyond the model": (["--lmax", 4], ("--lmax 4", "0 to 1")),
    "an unknown element": (["--elements", "Si,Cm"], ("does not know Cm", "Si")),
    "a head it lacks": (["--heads", "pbe"], ("pbe",)),
    "fewer than it grows to": (["--grow-radial-basis", 3], ("cannot grow to 3", "give 6 or more")),
    "as many as there are": (["--grow-radial-basis", 5], ("cannot grow to 5", "give 6 or more")),
    "a readout of one neuron": (["--interactions", 1, "--nonlinear-readout", 1], ("too narrow", "2 or more")),
    "a hidden layer twice": (["--nonlinear-readout", 16], ("has a hidden layer already",)),
    "nothing to draw": (["--reinitialise"], ("--reinitialise", "--grow-radial-basis", "--nonlinear-readout")),
    "channels without scores": (["--channels", 3], ("needs importance scores", "--criterion")),
    "too few parameters": (["--parameters", 0.0001, "--criterion", "random"], ("--parameters 0.0001", "--floor")),
    "no target": ([], ("Say what to reach",)),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_targets_are_refused(name: str, model: Path, tmp_path: Path, refused_in_one_line: Run) -> None:
    flags, says = IMPOSSIBLE[name]
    refused_in_one_line("prune", model, *flags, "-o", tmp_path / "x.model", says=says)


def test_a_suffix_of_another_family_is_refused(model: Path, tmp_path: Path, refused_in_one_line: Run) -> None:
    says = (".pth", "Upstream suffixes: .model", "no suffix writes equiprune's own directory")
    refused_in_one_line("prune", model, "--correlation", 2, "-o", tmp_path / "x.pth", says=says)
    refused_in_one_line("export", model, "-o", tmp_path / "x.pth", says=says)


@pytest.mark.parametrize("words", [["prune", "--correlation", 2], ["export"]])
def test_an_existing_file_is_left_alone(
    words: list[object], model: Path, tmp_path: Path, refused_in_one_line: Run
) -> None:
    (tmp_path / "x.model").write_bytes(b"precious")
    refused_in_one_line(words[0], model, *words[1:], "-o", tmp_path / "x.model", says=("x.model", "never overwritten"))


def test_a_multi_head_model_needs_one_of_its_heads(two_heads: Path, tmp_path: Path, refused_in_one_line: Run) -> None:
    ase.io.write(tmp_path / "data.xyz", ep.probe_structures([14])["covalent"])
    words = ("calibrate", two_heads, tmp_path / "data.xyz", "-o", tmp_path / "s.json")
    refused_in_one_line(*words, says=("--head", "pbe, r2scan"))
    refused_in_one_line(*words, "--head", "scan", says=("'scan' is not a head", "pbe, r2scan"))


# Files that are no MACE model.


def archive_of(pickled: bytes) -> bytes:
    """A torch file with this pickle."""
    with io.BytesIO() as stream:
        torch.save(0, stream)
        with zipfile.ZipFile(stream) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with io.BytesIO() as changed:
            with zipfile.ZipFile(changed, "w") as archive:
                for name, content in records.items():
                    archive.writestr(name, pickled if name.endswith("/data.pkl") else content)
            return changed.getvalue()


def named(module: str, name: str) -> bytes:
    """A torch file with an empty object of this class."""
    return archive_of(f"c{module}\n{name}\n)\x81.".encode("latin1"))


def deployed() -> bytes:
    with io.BytesIO() as stream:
        torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)), stream)
        return stream.getvalue()


def torch_file(content: Any) -> bytes:
    with io.BytesIO() as stream:
        torch.save(content, stream)
        return stream.getvalue()


FOREIGN: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "empty": (lambda: b"", ("not a readable torch file", "may be empty")),
    "text": (lambda: b"once upon a time\n", ("not a readable torch file",)),
    "truncated": (lambda: named("mace.modules.models", "MACE")[:-40], ("truncated", "Get it again")),
    "deployed for LAMMPS": (deployed, ("TorchScript", "Give the file it was made from")),
    "weights alone": (lambda: torch_file({"model": torch.zeros(2)}), ("holds a dict", "torch.save(model)")),
    "an unknown class": (lambda: named("lab.extras", "Booster"), ("lab.extras.Booster", "not opened")),
    "a program": (lambda: archive_of(b"cos\nsystem\n(X\x05\x00\x00\x00falsetR."), ("'os.system'", "not opened")),
    "dipoles": (lambda: named("mace.modules.models", "AtomicDipolesMACE"), ("AtomicDipolesMACE", "ScaleShiftMACE")),
    "MACE v1": (lambda: named("mace.core", "Foo"), ("mace.core.Foo", "MACE v1")),
    "an empty MACE": (lambda: named("mace.modules.models", "MACE"), ("pickled MACE", "mace_run_train")),
}


@pytest.mark.parametrize("command", ["info", "prune", "certify"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_mace_model_is_refused(
    kind: str, command: str, tmp_path: Path, refused_in_one_line: Run
) -> None:
    make, says = FOREIGN[kind]
    (tmp_path / "x.model").write_bytes(make())
    flags = ["--correlation", 2, "-o", tmp_path / "y.model"] if command == "prune" else []
    refused_in_one_line(command, tmp_path / "x.model", *flags, says=("x.model", *says))


def test_a_missing_file_and_a_foreign_directory_are_refused(tmp_path: Path, refused_in_one_line: Run) -> None:
    refused_in_one_line(
        "info", tmp_path / "none.model", says=("none.model", "neither a file nor a known model", "mace-mp-small")
    )
    (tmp_path / "x.model").mkdir()
    refused_in_one_line("info", tmp_path / "x.model", says=("not a model that equiprune wrote",))


def test_a_foreign_module_inside_is_refused(
    model: Path, tmp_path: Path, refused_in_one_line: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cuEquivariance layout says how to convert it."""
    package = ModuleType("cuequivariance_torch")
    package.Linear = type("Linear", (torch.nn.Module,), {"__module__": package.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    with upstream(torch.float64):
        module = torch.load(model, weights_only=False)
    module.interactions[0].linear = package.Linear()
    torch.save(module, tmp_path / "x.model")
    refused_in_one_line(
        "info", tmp_path / "x.model", says=("accelerated backend (cuequivariance_torch)", "mace_cueq_to_e3nn")
    )


def test_an_alias_is_looked_up_before_files(cli: Run, alias: str) -> None:
    value = cli("info", alias, "--json").json
    assert (value["source"], value["parameters"]["all"], value["licence"]) == (alias, 3_847_696, "MIT")
    assert value["dead"] == {"a_basis.0": "16x1o+12x2e+12x3o", "a_basis.1": "1x0e+128x1o+128x2e+128x3o"}


def test_offline_without_the_file_is_refused(
    tmp_path: Path, refused_in_one_line: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "EQUIPRUNE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    refused_in_one_line(
        "certify", "mace-mp-medium", says=("EQUIPRUNE_OFFLINE", "2023-12-03-mace-128-L1_epoch-199.model")
    )
