"""Pickled modules come in as data: what they hold is all there, and nothing they name is imported or run."""

import io
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from equiprune.errors import CheckpointError
from equiprune.files.outline import outline
from equiprune.files.pickles import StandIn, class_name, inside_wrappers, read_pickled_module

PACKAGES = ("architecture", "torch")


class Irreps(tuple):
    """Pickled like e3nn's: a subclass of tuple."""


class Net(nn.Module):
    """A bit of everything that a module can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 2), nn.Linear(2, 1, bias=False)])
        self.scale = nn.Parameter(torch.tensor([0.1, 1e-310, float("inf")], dtype=torch.float64))
        self.frozen = nn.Parameter(torch.arange(4.0, dtype=torch.float16), requires_grad=False)
        self.register_buffer("numbers", torch.tensor([1, 8, 2**40]))
        self.register_buffer("flag", torch.tensor(True))
        self.register_buffer("view", torch.arange(12.0).reshape(3, 4).T[1:, ::2])
        self.register_buffer("absent", None)
        self.register_parameter("none", None)
        self.irreps = Irreps([(4, Irreps((1, -1))), (2, Irreps((0, 1)))])
        self.activation = torch.nn.functional.silu
        self.builtin = torch.tanh
        self.plain = {"text": "ångström", "pair": (1, None), "bytes": b"\x00\xff", "z": 1 + 2j, "set": {1, 2}}
        self.kinds = [torch.float64, torch.device("cpu"), torch.Size([2, 3]), slice(1, 5, 2), OrderedDict(a=1)]
        self.numpy = [np.float64(61.964672446250916), np.float32(0.1), np.int64(-7), np.bool_(True)]


@pytest.fixture(autouse=True)
def architecture(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package that has these classes while a file is written."""
    package = ModuleType("architecture")
    for made in (Irreps, Net):
        monkeypatch.setattr(made, "__module__", "architecture")
        setattr(package, made.__name__, made)
    monkeypatch.setitem(sys.modules, "architecture", package)
    return package


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.model"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file that exists only if something ran."""
    return tmp_path / "trace"


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def streamed(stream: bytes, path: Path) -> Path:
    """A torch file whose pickle is this stream."""
    torch.save(nn.Identity(), path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, stream if name.endswith("/data.pkl") else content)
    return path


def read(path: Path) -> Any:
    return read_pickled_module(path, PACKAGES)


def refusal(path: Path) -> str:
    """The message of the error, which names the file."""
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert f"'{path}'" in str(caught.value)
    return str(caught.value)


# What a file holds comes back.


def test_tensors_have_the_names_and_bits_of_the_state_dict(path: Path) -> None:
    net = Net()
    expected, found = net.state_dict(), dict(read(saved(net, path)).tensors())
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].requires_grad) == (tensor.dtype, False)
        assert torch.equal(found[name], tensor)


def test_parameters_buffers_and_children_are_attributes(path: Path) -> None:
    net, found = Net(), read(saved(Net(), path))
    assert isinstance(found.scale, nn.Parameter)
    assert torch.equal(found.scale, net.scale)
    assert (found.none, found.absent) == (None, None)
    first, second = found.layers.children()
    assert (first.in_features, first.out_features, second.out_features) == (3, 2, 1)
    assert not hasattr(found, "other")


def test_plain_values_come_back_as_they_are(path: Path) -> None:
    net, found = Net(), read(saved(Net(), path))
    assert (found.plain, found.kinds) == (net.plain, net.kinds)
    assert found.numpy == [61.964672446250916, float(np.float32(0.1)), -7, True]


def test_numbers_of_other_byte_orders_and_older_numpy_are_read(path: Path) -> None:
    """numpy 1 called ``numpy._core`` ``numpy.core``; dtypes of big-endian machines say so in their state."""
    big = np.array(1.5, dtype=">f8")
    stream = pickle.dumps(Calls(nn.Linear, Calls(*_scalar_of(big))), 2).replace(b"numpy._core.m", b"numpy.core.m")
    assert read(streamed(stream, path)).args == (1.5,)


def _scalar_of(number: np.ndarray) -> tuple[Callable[..., Any], np.dtype, bytes]:
    return np.float64(0).__reduce__()[0], number.dtype, number.tobytes()


def test_a_tuple_of_irreps_keeps_its_fields(path: Path) -> None:
    [entries] = read(saved(Net(), path)).irreps.args
    assert [(mul, irrep.args, class_name(irrep)) for mul, irrep in entries] == [
        (4, ((1, -1),), "Irreps"),
        (2, ((0, 1),), "Irreps"),
    ]


def test_classes_and_functions_are_known_by_name(path: Path) -> None:
    found = read(saved(Net(), path))
    assert (found.origin, class_name(found)) == ("architecture.Net", "Net")
    assert (found.activation.origin, class_name(found.activation)) == ("torch.nn.functional.silu", "silu")
    assert class_name(found.builtin) == "tanh"
    assert isinstance(found.layers, StandIn)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_a_module_is_taken_out_of_its_wrappers(wrap: Callable[[nn.Module], nn.Module], times: int, path: Path) -> None:
    net: nn.Module = Net()
    expected = read(saved(net, path))
    for _ in range(times):
        net = wrap(net)
    found = read(saved(net, path))
    assert found.origin == expected.origin
    assert [name for name, _ in found.tensors()] == [name for name, _ in expected.tensors()]


@pytest.mark.slow
def test_a_compiled_module_is_recognised_and_refused_with_what_to_save(path: Path) -> None:
    """So that the refusal is of the architecture that is inside."""
    saved(torch.compile(Net()), path)
    assert class_name(inside_wrappers(outline(path))) == "Net"
    assert "Save what is inside: torch.save(model._orig_mod, path)" in refusal(path)


def test_two_reads_share_nothing(path: Path) -> None:
    saved(Net(), path)
    first, second = read(path), read(path)
    first.scale.data.zero_()
    first.plain["text"] = "changed"
    assert second.scale.abs().max() > 0
    assert second.plain["text"] == "ångström"


# Nothing is imported.


def test_the_classes_need_not_be_importable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(Net(), path)
    monkeypatch.delitem(sys.modules, "architecture")
    assert dict(read(path).tensors()).keys() == Net().state_dict().keys()
    assert "architecture" not in sys.modules


def test_a_package_that_is_allowed_is_not_imported(
    path: Path, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies on the path, and importing it leaves a trace."""
    monkeypatch.delitem(sys.modules, "architecture")
    (tmp_path / "architecture.py").write_text(f"import os\nos.mkdir({str(trace)!r})\nclass Foo: pass")
    monkeypatch.syspath_prepend(tmp_path)
    assert read(streamed(b"carchitecture\nFoo\n)\x81.", path)).origin == "architecture.Foo"
    assert not trace.exists()
    pickle.loads(b"carchitecture\nFoo\n)\x81.")
    assert trace.exists()


def test_looking_for_a_dtype_imports_nothing_lazily(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.onnx`` and others are imported by asking for them."""
    asked: list[str] = []
    monkeypatch.setattr(torch, "__getattr__", asked.append)
    assert read(streamed(b"ctorch\n_inductor\n)\x81.", path)).origin == "torch._inductor"
    assert asked == []


# Nothing is run.


class Calls:
    """Unpickling this calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


HOSTILE: dict[str, Callable[[Path], Calls]] = {
    "posix.system": lambda trace: Calls(os.system, f"touch '{trace}'"),
    "posix.mkdir": lambda trace: Calls(os.mkdir, str(trace)),
    "check_call": lambda trace: Calls(subprocess.check_call, ["touch", str(trace)]),
    "builtins.eval": lambda trace: Calls(eval, f"__import__('os').mkdir({str(trace)!r})"),
    "builtins.exec": lambda trace: Calls(exec, f"import os; os.mkdir({str(trace)!r})"),
    "shutil.copyfile": lambda trace: Calls(shutil.copyfile, __file__, str(trace)),
    "pickle.loads": lambda trace: Calls(pickle.loads, pickle.dumps(Calls(os.mkdir, str(trace)))),
    "pathlib.": lambda trace: Calls(trace.mkdir),  # a bound method is pickled as getattr of its object
}
"""By what the message must name (old protocols call subprocess commands); each leaves a trace when it runs."""


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_name_and_not_run(name: str, protocol: int, path: Path, trace: Path) -> None:
    content = pickle.dumps({"payload": HOSTILE[name](trace)}, protocol)
    message = refusal(streamed(content, path))
    assert name in message
    assert "Get the file from its authors again" in message
    assert not trace.exists()
    pickle.loads(content)
    assert trace.exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_payload_hidden_deep_in_a_module_is_found(name: str, path: Path, trace: Path) -> None:
    net = Net()
    net.layers[0].hook = {"key": [(HOSTILE[name](trace),)]}
    assert name in refusal(saved(net, path))
    assert not trace.exists()


def test_a_call_of_an_allowed_package_is_only_remembered(path: Path, trace: Path) -> None:
    """`torch.save` would write a file."""
    module = nn.Identity()
    module.payload = Calls(torch.save, 1, str(trace))
    payload = read(saved(module, path)).payload
    assert (payload.origin, payload.args) == ("torch.serialization.save", (1, str(trace)))
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize("name", [b"torch.hub\nload", b"torch.hub\nos.system", b"torch\nload", b"torch\nos"])
def test_names_reached_through_an_allowed_package_are_inert(name: bytes, path: Path) -> None:
    found = read(streamed(b"c" + name + b"\n(X\x04\x00\x00\x00exittR.", path))
    assert found.origin == name.decode().replace("\n", ".")
    assert found.args == ("exit",)


def test_a_stand_in_has_no_attributes_to_climb_from(path: Path) -> None:
    """``getattr`` gives another name, never an object of this process."""
    name = b"X\x0b\x00\x00\x00__globals__"
    found = read(streamed(b"cbuiltins\ngetattr\n(ctorch.hub\nload\n" + name + b"tR)\x81.", path))
    assert found.origin == "torch.hub.load.__globals__"


@pytest.mark.parametrize(
    "owner", [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"ctorch\nSize\n"]
)
def test_nor_has_what_is_real(owner: bytes, path: Path) -> None:
    name = b"X\x0b\x00\x00\x00__globals__"
    assert "builtins.getattr" in refusal(streamed(b"cbuiltins\ngetattr\n(" + owner + name + b"tR.", path))


@pytest.mark.parametrize(
    "name", [b"torch._utils\n_rebuild_tensor_v2", b"_codecs\nencode", b"numpy._core.multiarray\nscalar"]
)
def test_functions_that_are_real_cannot_be_changed(name: bytes, path: Path) -> None:
    """BUILD sets attributes of whatever it is given: of a bare function, for the whole process."""
    function, state = torch._utils._rebuild_tensor_v2, b"N}X\x0c\x00\x00\x00__defaults__)s\x86b"
    before = function.__defaults__
    refusal(streamed(b"c" + name + b"\n" + state + b"0ctorch.nn\nIdentity\n)\x81.", path))
    assert function.__defaults__ == before


def test_numbers_cannot_become_pointers(path: Path) -> None:
    """NumPy takes a dtype's word that bytes are objects; touching such an array would end this process, or worse."""
    pretended = Calls3(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))
    rebuild, arguments = np.empty(0).__reduce__()[:2]
    module = nn.Identity()
    module.array = Calls3(rebuild, arguments, (1, (1,), pretended, False, b"A" * 8))
    module.number = 3
    found = read(saved(module, path))
    assert isinstance(found.array, StandIn)
    assert found.number == 3
    module.array = Calls(*_scalar_of(np.array(1.0))[:1], pretended, b"A" * 8)
    assert "type object" in refusal(saved(module, path))


class Calls3(Calls):
    """The same, then sets a state."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], state: Any) -> None:
        self.call = function, arguments, state  # type: ignore[assignment]


class Deployed(nn.Module):
    """TorchScript with a `__setstate__`, which loading runs."""

    def __init__(self, trace: str) -> None:
        super().__init__()
        self.trace = trace

    def forward(self) -> str:
        return self.trace

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.trace, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.trace = state[0]
        self.training = state[1]
        torch.save(1, state[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_deployed_model_is_refused_and_not_run(path: Path, trace: Path) -> None:
    torch.jit.save(torch.jit.script(Deployed(str(trace))), path)
    message = refusal(path)
    assert "TorchScript" in message
    assert "Give the file it was made from" in message
    assert not trace.exists()
    torch.jit.load(path)
    assert trace.exists()


def test_the_format_before_zip_is_refused(path: Path, tmp_path: Path) -> None:
    """Reading it compares sources, and writes a patch to wherever the file says."""
    torch.save(nn.Identity(), path, _use_new_zipfile_serialization=False)
    assert "no zip archive" in refusal(path)
    with torch_legacy(path) as stream:
        changed = b"}X\x0c\x00\x00\x00dump_patches\x88s}X\x08\x00\x00\x00__name__" + _text(str(tmp_path / "evil"))
        function = b"ctorch._utils\n_rebuild_tensor_v2\n" + changed + b"s\x86b"
        stream.write(b"\x80\x02(" + _text("module") + function + _text("file.py") + _text("source") + b"tQ.")
    refusal(path)
    assert list(tmp_path.glob("*.patch")) == []


class torch_legacy:  # noqa: N801 (reads like open)
    """A file in the format of torch before 1.6, whose pickle the block writes."""

    def __init__(self, path: Path) -> None:
        self.path, self.stream = path, io.BytesIO()

    def __enter__(self) -> io.BytesIO:
        for value in (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}):
            pickle.dump(value, self.stream, 2)
        return self.stream

    def __exit__(self, *_: object) -> None:
        pickle.dump([], self.stream, 2)
        self.path.write_bytes(self.stream.getvalue())


def _text(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


# What is no module.


@pytest.mark.parametrize("content", [b"", b"P", b"PK\x03\x04", b"once upon a time\n", bytes(range(256)) * 16])
def test_other_bytes_are_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    message = refusal(path)
    assert "not a readable torch file" in message
    assert message.endswith("Get it again.")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(kept: float, path: Path) -> None:
    content = saved(Net(), path).read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "may be empty or truncated" in refusal(path)


@pytest.mark.parametrize("code", [b"r\x00\x00\x00\x40", b"p1073741824\n"], ids=["LONG_BINPUT", "PUT"])
def test_an_object_with_a_number_that_none_can_have_is_refused_before_there_is_room_for_it(
    code: bytes, path: Path
) -> None:
    """The reader in C would take 8 bytes for each of a thousand million objects."""
    streamed(b"\x80\x02]" + code + b".", path)
    assert "an object number 1073741824, and " in refusal(path)
    assert outline(path) is None


def test_a_zip_of_something_else_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not a readable torch file" in refusal(path)


def test_a_tensor_cut_short_inside_is_refused(path: Path) -> None:
    """Its shape says more than its bytes hold."""
    saved(Net(), path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content[:1] if name.endswith("/data/0") else content)
    assert "not a readable torch file" in refusal(path)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"model": torch.zeros(2)}, "dict"),
        (Net().state_dict(), "OrderedDict"),
        (torch.zeros(2), "Tensor"),
        ([1], "list"),
    ],
    ids=["dict", "state dict", "tensor", "list"],
)
def test_something_else_than_a_module_is_named(content: Any, kind: str, path: Path) -> None:
    message = refusal(saved(content, path))
    assert f"holds a {kind}" in message
    assert "torch.save(model)" in message


def test_an_unknown_class_is_named_with_what_is_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("elsewhere")
    other.Net = type("Net", (nn.Module,), {"__module__": "elsewhere"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "elsewhere", other)
    message = refusal(saved(other.Net(), path))
    assert "'elsewhere.Net'" in message
    assert "architecture, torch" in message


def test_a_package_whose_name_only_begins_alike_is_unknown(path: Path) -> None:
    assert "'torchvision.models.Net'" in refusal(streamed(b"ctorchvision.models\nNet\n)\x81.", path))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "There is no file" in refusal(tmp_path / "none.model")
    assert "There is no file" in refusal(tmp_path)
