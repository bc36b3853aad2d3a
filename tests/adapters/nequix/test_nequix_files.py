"""Nequix's files are read as data, written back bit by bit, and refused by name when anything is wrong with them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from full_disk import files_of_at_most
from nequix_files import PUBLISHED, SMALL, pruned_shape, published_file, random_numbers, refusal
from numpy.lib import format as npy
from plain_code import plain
from random_nequix import architecture

from equiprune.adapters.nequix import checkpoint_file, export, published
from equiprune.adapters.nequix.architecture import from_config, to_config
from equiprune.adapters.nequix.leaves import leaves, to_arrays, to_weights
from equiprune.errors import CheckpointError, OutputError

OFFICIAL = architecture(
    elements=tuple(range(1, 90)),
    cutoff=6.0,
    hidden_irreps="128x0e+64x1o+32x2e+32x3o",
    layers=4,
    first_channels=89,
    radial_basis=8,
    radial_width=64,
)
"""Hyperparameters of both published models, but for which elements they know."""

FIRST = [(89,), (8, 64), (64, 64), (64, 356), (89, 89), (89, 256), (89, 64), (89, 32), (89, 32)]
FIRST += [(89, 256), (256,), (64,), (32,), (32,)]
"""Shapes of the first layer's arrays as the published files have them."""

SUFFIXES = pytest.mark.parametrize("suffix", [".nqx", ".pt"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The same small model by suffix."""
    folder = tmp_path_factory.mktemp("files")
    written = {suffix: folder / f"small{suffix}" for suffix in (".nqx", ".pt")}
    for path in written.values():
        assert export.write(random_numbers(), path) == (path,)
    return written


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    """The first line as JSON, and what follows it."""
    line, _, rest = path.read_bytes().partition(b"\n")
    return json.loads(line), rest


def joined(path: Path, config: Any, rest: bytes) -> Path:
    path.write_bytes(json.dumps(config).encode() + b"\n" + rest)
    return path


def saved(*arrays: np.ndarray) -> bytes:
    """Arrays as `numpy.save` writes them, one after another; objects are pickled."""
    stream = BytesIO()
    for array in arrays:
        np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_arrays_have_the_order_and_shapes_of_the_published_files() -> None:
    listed = leaves(OFFICIAL)
    assert [leaf.shape for leaf in listed[: len(FIRST)]] == FIRST
    assert listed[-1].shape == (128, 1)
    assert len(listed) == 63
    assert sum(leaf.size for leaf in listed) == 707_658


@pytest.mark.parametrize("arch", [SMALL, architecture(layer_norm=False), architecture(radial_layers=1)])
def test_arrays_and_weights_are_inverse(arch: Any) -> None:
    weights = random_numbers(arch).weights
    arrays = list(to_arrays(arch, weights))
    assert [array.shape for array in arrays] == [leaf.shape for leaf in leaves(arch)]
    again = to_weights(arch, arrays)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weight) for name, weight in weights.items())


def test_arrays_of_a_linear_map_are_e3nns_blocks_by_their_names_as_text() -> None:
    """With more than ten irreps, a name that begins with 10 comes before one that begins with 2."""
    from e3nn import o3

    wide = architecture(hidden_irreps="+".join(f"{13 - l}x{l}{'eo'[l % 2]}" for l in range(12)), edge_lmax=11)
    weights = random_numbers(wide).weights
    with plain():
        module = o3.Linear(wide.hidden_irreps, wide.hidden_irreps)
    module.weight.data = weights["layers.1.linear_1.weight"]
    blocks = {f"w[{at.i_in},{at.i_out}]": block for _, at, block in module.weight_views(yield_instruction=True)}
    listed = zip(leaves(wide), to_arrays(wide, weights), strict=True)
    found = [array for leaf, array in listed if leaf.weight == "layers.1.linear_1.weight"]
    assert len(found) == len(blocks) == 12
    for array, name in zip(found, sorted(blocks), strict=True):
        np.testing.assert_array_equal(array, blocks[name].detach().numpy())


@SUFFIXES
def test_what_is_written_reads_back(suffix: str, files: Mapping[str, Path]) -> None:
    """Bit by bit, with hyperparameters, licence, history, and the digest of the file."""
    meant, found = random_numbers(), checkpoint_file.read(files[suffix])
    assert found.architecture == meant.architecture
    assert found.weights.keys() == meant.weights.keys()
    assert all(torch.equal(found.weights[name], weight) for name, weight in meant.weights.items())
    assert (found.licence, found.history, found.source) == (meant.licence, meant.history, str(files[suffix]))
    assert found.sha256 == hashlib.sha256(files[suffix].read_bytes()).hexdigest()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_a_state_dict_of_a_wrapped_model_is_read(prefix: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    config, _ = split(files[".pt"])
    meant = random_numbers().weights
    export.write_pt(tmp_path / "x.pt", config, {prefix + name: weight for name, weight in meant.items()})
    found = checkpoint_file.read(tmp_path / "x.pt").weights
    assert found.keys() == meant.keys()
    assert all(torch.equal(found[name], weight) for name, weight in meant.items())


@SUFFIXES
def test_double_precision_is_rounded_to_single(suffix: str, tmp_path: Path) -> None:
    meant = random_numbers(dtype=torch.float64)
    export.write(meant, tmp_path / f"x{suffix}")
    found = checkpoint_file.read(tmp_path / f"x{suffix}")
    assert all(torch.equal(found.weights[name], weight.float()) for name, weight in meant.weights.items())


@pytest.mark.parametrize(("suffix", "write"), [(".nqx", export.write_nqx), (".pt", export.write_pt)])
def test_a_file_that_is_read_and_written_is_the_same(
    suffix: str, write: Callable[..., None], files: Mapping[str, Path], tmp_path: Path
) -> None:
    config, weights = checkpoint_file.read_file(files[suffix])
    write(tmp_path / files[suffix].name, config, weights)
    assert (tmp_path / files[suffix].name).read_bytes() == files[suffix].read_bytes()


def test_energies_of_the_first_line_are_those_of_the_weights(files: Mapping[str, Path]) -> None:
    """Upstream's torch model takes them from there, its JAX model from the arrays."""
    config, _ = split(files[".nqx"])
    assert list(config["atom_energies"]) == [str(z) for z in SMALL.elements]
    assert list(config["atom_energies"].values()) == random_numbers().weights["atom_energies"].tolist()


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.supports("Nequix (the official files)", "opens")
@pytest.mark.supports("Nequix (the official files)", "exports")
def test_a_published_file_has_every_parameter_and_is_written_back(name: str, tmp_path: Path) -> None:
    """Its first line stays, its arrays too; what follows the last array is left out."""
    path = published_file(name)
    config, weights = checkpoint_file.read_file(path)
    assert sum(weight.numel() for weight in weights.values()) == 707_658
    export.write_nqx(tmp_path / "again.nqx", config, weights)
    assert split(tmp_path / "again.nqx")[0] == split(path)[0]
    assert split(path)[1].startswith(split(tmp_path / "again.nqx")[1])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_is_known_by_its_digest(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by its alias where it lies in the cache: nothing is downloaded."""
    path = published_file(name)
    (tmp_path / f"{name}.nqx").symlink_to(path)
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    by_alias, by_path = checkpoint_file.read(name.upper()), checkpoint_file.read(path)
    assert (by_alias.licence, by_path.licence) == ("MIT", "MIT")
    assert by_alias.sha256 == by_path.sha256 == published.PUBLISHED[name][1].sha256


def test_another_file_under_a_published_name_is_refused(
    files: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nequix-oam-1.nqx").write_bytes(files[".nqx"].read_bytes())
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"is not the published file: its sha256 is [0-9a-f]{64}, expected 6a43"):
        checkpoint_file.read("nequix-oam-1")


def test_offline_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    with pytest.raises(CheckpointError) as caught:
        checkpoint_file.read("nequix-mp-1")
    for word in (published.PUBLISHED["nequix-mp-1"][1].url, str(tmp_path / "cache" / "nequix-mp-1.nqx")):
        assert word in str(caught.value)


def test_a_licence_that_is_not_known_is_said_to_be(files: Mapping[str, Path], tmp_path: Path) -> None:
    config, rest = split(files[".nqx"])
    del config["equiprune"]
    found = checkpoint_file.read(joined(tmp_path / "x.nqx", config, rest))
    assert (found.licence, found.history) == ("unknown", ())


@SUFFIXES
def test_a_file_is_recognised_under_any_name(suffix: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(files[suffix].read_bytes())
    assert checkpoint_file.recognised(tmp_path / "model")
    assert checkpoint_file.read(tmp_path / "model").architecture == SMALL


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}\n", b"[1]\n", b"3\n", b"{", b"\x80\x02.", b"PK\x03\x04", b"\xff{"]
)
def test_what_is_not_nequixs_is_not_recognised(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert not checkpoint_file.recognised(tmp_path / "x")
    assert not checkpoint_file.recognised(tmp_path)
    assert not checkpoint_file.recognised(tmp_path / "missing")


def test_what_follows_the_last_array_is_not_looked_at(files: Mapping[str, Path], tmp_path: Path) -> None:
    """Files of older releases have hyperparameters there once more: numbers, and pickled objects."""
    for rest in (saved(np.array(6.0)), saved(np.array([{}], dtype=object)), b"anything"):
        config, arrays = split(files[".nqx"])
        found = checkpoint_file.read(joined(tmp_path / "x.nqx", config, arrays + rest))
        assert torch.equal(found.weights["readout.weight"], random_numbers().weights["readout.weight"])


@SUFFIXES
def test_a_file_that_was_cut_off_anywhere_is_refused(suffix: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    content = files[suffix].read_bytes()
    first = content.index(b"\n") + 1
    ends = {0, 1, first - 1, first, first + 1, first + 5, *range(first, len(content), 397), len(content) - 1}
    for end in sorted(ends):
        (tmp_path / "x").write_bytes(content[:end])
        message = refusal(tmp_path / "x")
        assert "empty" in message if end == 0 else "cut off" in message or "truncated" in message, (end, message)


def test_a_damaged_byte_is_refused_or_harmless(files: Mapping[str, Path], tmp_path: Path) -> None:
    """Anything but a clear error, or a model of the shapes that were meant, would be a defect."""
    content, generator = files[".nqx"].read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(content)
        damaged[generator.integers(len(content))] = generator.integers(256)
        (tmp_path / "x").write_bytes(damaged)
        with suppress(CheckpointError):
            checkpoint_file.read(tmp_path / "x")


def change(arrays: bytes, place: int, new: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """The same arrays with another one at a place."""
    stream, found = BytesIO(arrays), []
    while stream.tell() < len(arrays):
        found.append(npy.read_array(stream, allow_pickle=False))
    found[place] = new(found[place])
    return saved(*found)


WRONG_ARRAYS: Mapping[str, tuple[int, Callable[[np.ndarray], np.ndarray], str]] = {
    "another shape": (1, lambda a: a[:, :-1], "array 2 of 22 (layers.0.radial_mlp.layers.0.weights) has shape (5, 7)"),
    "a transposed matrix": (1, lambda a: a.T.copy(), "has shape (8, 5) of float32, not (5, 8) of float32"),
    "double precision": (0, lambda a: a.astype(np.float64), "array 1 of 22 (atom_energies) has shape (3,) of float64"),
    "whole numbers": (4, lambda a: a.astype(np.int32), "of int32"),
    "pickled objects": (3, lambda a: a.astype(object), "array 4 of 22 is made of pickled objects"),
    "text": (2, lambda a: a.astype(str), "of <U"),
}


@pytest.mark.parametrize("name", WRONG_ARRAYS)
def test_other_arrays_are_refused(name: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    place, new, says = WRONG_ARRAYS[name]
    config, arrays = split(files[".nqx"])
    assert says in refusal(joined(tmp_path / "x.nqx", config, change(arrays, place, new)))


def test_more_arrays_are_refused(files: Mapping[str, Path], tmp_path: Path) -> None:
    config, arrays = split(files[".nqx"])
    more = arrays + saved(np.zeros((4, 4), np.float32))
    assert "has more arrays than the 22 of its hyperparameters" in refusal(joined(tmp_path / "x.nqx", config, more))


def test_columns_first_is_the_same_matrix(files: Mapping[str, Path], tmp_path: Path) -> None:
    """`numpy.save` keeps the order in memory; what jax hands to it may have either."""
    config, arrays = split(files[".nqx"])
    found = checkpoint_file.read(joined(tmp_path / "x.nqx", config, change(arrays, 1, np.asfortranarray)))
    meant = random_numbers().weights["layers.0.radial_mlp.layers.0.weights"]
    assert torch.equal(found.weights["layers.0.radial_mlp.layers.0.weights"], meant)


WRONG_LINES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "an infinite cutoff": ({"cutoff": float("inf")}, "Infinity for a number"),
    "a scale that is no number": ({"scale": float("nan")}, "NaN for a number"),
    "a cutoff of text": ({"cutoff": "6"}, 'its cutoff is "6"; it must be a positive number'),
    "a negative cutoff": ({"cutoff": -1.0}, "its cutoff is -1.0; it must be a positive number"),
    "no neighbours": ({"avg_n_neighbors": 0}, "its avg_n_neighbors is 0; it must be a positive number"),
    "a shift of nothing": ({"shift": None}, "its shift is null; it must be a number"),
    "layers in halves": ({"n_layers": 1.5}, "its n_layers is 1.5; it must be a whole number from 1 to 100"),
    "no layers": ({"n_layers": 0}, "it must be a whole number from 1 to 100"),
    "a million layers": ({"n_layers": 1_000_000}, "it must be a whole number from 1 to 100"),
    "an l that e3nn has not": ({"lmax": 12}, "its lmax is 12; it must be a whole number from 0 to 11"),
    "a norm of 1": ({"layer_norm": 1}, "its layer_norm is 1; it must be true or false"),
    "irreps that are a list": ({"hidden_irreps": [[3, 0]]}, "it must be text such as"),
    "irreps that are none": ({"hidden_irreps": "many"}, "irreps that equiprune does not handle"),
    "irreps without scalars": ({"hidden_irreps": "4x1o"}, "scalars 0e first"),
    "an irrep twice": ({"hidden_irreps": "3x0e + 2x0e"}, "'3x0e+2x0e' names an irrep twice"),
    "irreps by falling l": ({"hidden_irreps": "3x0e + 2x2e + 2x1o"}, "every irrep once, by rising l"),
    "no elements": ({"atomic_numbers": []}, "it must be a list of rising numbers from 1 to 118"),
    "an element twice": ({"atomic_numbers": [1, 8, 8]}, "a list of rising numbers"),
    "elements by falling number": ({"atomic_numbers": [8, 1, 14]}, "a list of rising numbers"),
    "element 500": ({"atomic_numbers": [1, 8, 500]}, "a list of rising numbers from 1 to 118"),
    "an element without energy": ({"atomic_numbers": [1, 8, 29]}, "its atom_energies lack 29"),
    "energies in a list": ({"atom_energies": [1, 2, 3]}, "it must be energies in eV by atomic number"),
    "more layers": ({"n_layers": 3}, "its weights do not fit its first line: array 15 of 37 (layers.1.radial"),
    "weights by element": ({"index_weights": True}, "weights for each element (index_weights)"),
    "repulsion": ({"add_repulsion": True}, "its first line has ['add_repulsion'], which Nequix 0.4.5 does not know"),
    "a misspelt key": ({"layer_nrom": True}, "layer_norm"),
    "no licence": ({"equiprune": {"history": []}}, "its licence and history cannot be read"),
    "a history of numbers": ({"equiprune": {"licence": "MIT", "history": [1]}}, "its licence and history"),
}


@pytest.mark.parametrize("name", WRONG_LINES)
def test_another_first_line_is_refused(name: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    changes, says = WRONG_LINES[name]
    config, rest = split(files[".nqx"])
    assert says in refusal(joined(tmp_path / "x.nqx", {**config, **changes}, rest))


@pytest.mark.parametrize("key", to_config(SMALL, dict.fromkeys(SMALL.elements, 0.0)))
def test_a_first_line_that_lacks_a_key_is_refused(key: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    config, rest = split(files[".nqx"])
    del config[key]
    if key == "atom_energies":  # a copy of the first array, which upstream's JAX model does not ask for
        assert checkpoint_file.read(joined(tmp_path / "x.nqx", config, rest)).architecture == SMALL
    else:
        assert f"its first line has no {key}" in refusal(joined(tmp_path / "x.nqx", config, rest))


NOT_FILES: Mapping[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "binary": (b"\x80\x02}q\x00.", "does not begin with a line of JSON"),
    "a list": (b"[1, 2]\n", "does not begin with a line of JSON"),
    "no JSON": (b"{cutoff: 6}\n", "its first line is not JSON"),
    "very deep": (b'{"a":' * 100_000 + b"\n", "its first line is not JSON"),
    "no end": (b'{"cutoff": 6.0}', "its first line does not end"),
    "another JSON": (b'{"format": "x"}\n', "its first line has no atomic_numbers, hidden_irreps"),
}


@pytest.mark.parametrize("name", NOT_FILES)
def test_what_is_no_model_is_refused(name: str, tmp_path: Path) -> None:
    content, says = NOT_FILES[name]
    (tmp_path / "x.nqx").write_bytes(content)
    assert says in refusal(tmp_path / "x.nqx")


def test_text_instead_of_weights_is_refused(files: Mapping[str, Path], tmp_path: Path) -> None:
    config, _ = split(files[".nqx"])
    message = refusal(joined(tmp_path / "x.nqx", config, b"no weights here"))
    assert "has neither numpy arrays nor a torch file after its first line" in message


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "There is no file" in refusal(tmp_path / "missing.nqx")
    assert "There is no file" in refusal(tmp_path)


class Harmful:
    """An object whose pickle makes a file when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@SUFFIXES
def test_a_pickle_that_runs_code_is_refused_and_not_run(suffix: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    config, _ = split(files[suffix])
    mark, stream = tmp_path / "mark", BytesIO()
    if suffix == ".pt":
        torch.save({"atom_energies": Harmful(mark)}, stream)
    else:
        np.save(stream, np.array([Harmful(mark)] * 3, dtype=object), allow_pickle=True)
    message = refusal(joined(tmp_path / f"x{suffix}", config, stream.getvalue()))
    assert "pickle" in message
    assert not mark.exists()


STATES: Mapping[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a weight is missing": (lambda s: s.pop("readout.weight"), "readout.weight is missing, not (3,)"),
    "a weight too many": (lambda s: s.update(extra=torch.zeros(2)), "extra is (2,), not expected"),
    "another shape": (lambda s: s.update({"readout.weight": torch.zeros(4)}), "readout.weight is (4,), not (3,)"),
    "whole numbers": (
        lambda s: s.update({"readout.weight": torch.zeros(3, dtype=torch.int64)}),
        "readout.weight is of torch.int64, not (3,)",
    ),
    "a number": (lambda s: s.update({"readout.weight": 3.0}), "readout.weight is a float, not (3,)"),
}


@pytest.mark.parametrize("name", STATES)
def test_another_state_dict_is_refused(name: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    edit, says = STATES[name]
    config, rest = split(files[".pt"])
    state, stream = torch.load(BytesIO(rest)), BytesIO()
    edit(state)
    torch.save(state, stream)
    assert says in refusal(joined(tmp_path / "x.pt", config, stream.getvalue()))


def test_a_model_that_upstreams_constructor_cannot_build_is_not_written() -> None:
    assert export.why_not(SMALL) == ""
    assert "first layer sends 3 channels for 2 elements" in export.why_not(pruned_shape())


def test_the_jax_model_needs_messages_of_every_irrep(tmp_path: Path) -> None:
    """Harmonics below the hidden l, which the torch model takes."""
    lacking = random_numbers(architecture(hidden_irreps="3x0e+2x1o+2x2e", edge_lmax=1, layers=2))
    with pytest.raises(OutputError, match=r"no message of layer 0 has 2e.*Write it as '.pt'"):
        export.write(lacking, tmp_path / "x.nqx")
    assert not list(tmp_path.iterdir())
    export.write(lacking, tmp_path / "x.pt")
    assert checkpoint_file.read(tmp_path / "x.pt").architecture == lacking.architecture


@SUFFIXES
def test_a_full_disk_leaves_the_file_that_was_there(suffix: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(files[suffix].read_bytes())
    with files_of_at_most(1000), pytest.raises(OutputError, match="could not be written"):
        export.write(random_numbers(seed=1), path)
    assert path.read_bytes() == files[suffix].read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_hyperparameters_survive_the_first_line() -> None:
    config = json.loads(json.dumps(to_config(OFFICIAL, dict.fromkeys(OFFICIAL.elements, -1.0))))
    assert from_config(config) == OFFICIAL
