"""NequIP's packages are read as data, opened by stock tools, and refused by name when anything is wrong with them."""

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from ase.io import write
from nequip_files import refusal, small, with_files
from random_nequip import architecture, random_checkpoint

from equiprune.adapters.nequip import NequIPAdapter, export
from equiprune.adapters.nequip.architecture import reached
from equiprune.adapters.nequip.checkpoint_file import METADATA, MODEL
from equiprune.adapters.nequip.package_file import architecture_of
from equiprune.adapters.registry import adapter_for
from equiprune.errors import CheckpointError, OutputError
from equiprune.files.pickles import StandIn
from equiprune.files.torch_packages import Package
from equiprune.potentials.checkpoint import save
from equiprune.potentials.potential import Potential
from equiprune.pruning.allocation import allocate
from equiprune.pruning.slicing import prune
from equiprune.pruning.targets import EdgeLmax, Lmax
from equiprune.structures.probes import probe_structures

PACKAGES = frozenset({"nequip", "e3nn", "torch", "opt_einsum_fx"})


def test_what_is_written_reads_back(package: Path) -> None:
    """Bit by bit, with hyperparameters, licence and history; the adapter is found by what is in the file."""
    meant, found = small(), adapter_for(package).read(package)
    assert found.architecture == meant.architecture
    assert found.weights.keys() == meant.weights.keys()
    assert all(torch.equal(found.weights[name], weight) for name, weight in meant.weights.items())
    assert (found.licence, found.history) == ("MIT", ({"step": "made"},))


@pytest.mark.slow
def test_reading_runs_nothing(package: Path, tmp_path: Path) -> None:
    """Code in a package may be anything: neither it nor nequip is imported."""
    code = "raise SystemExit('run')"
    with_files(package, tmp_path / "x.nequip.zip", {"nequip/nn/mlp.py": code.encode()})
    program = (
        "import sys; from equiprune.adapters.nequip import NequIPAdapter; "
        f"NequIPAdapter().read({str(tmp_path / 'x.nequip.zip')!r}); "
        "print([name for name in ('nequip', 'e3nn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Hostile:
    """A pickle of it runs a program."""

    def __reduce__(self) -> tuple:
        return eval, ("print('run')",)


def test_a_pickle_that_runs_code_is_refused(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = with_files(package, tmp_path / "x.nequip.zip", {MODEL: pickle.dumps(Hostile())})
    assert "builtins.eval" in refusal(path)
    assert capsys.readouterr().out == ""


def test_a_pickle_of_something_else_is_refused(package: Path, tmp_path: Path) -> None:
    path = with_files(package, tmp_path / "x.nequip.zip", {MODEL: pickle.dumps([1])})
    assert f"holds a list in {MODEL}, not a module" in refusal(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (b"package_version_id: 3\n", "is in version 3 of the format of NequIP's packages"),
        (b"versions: {}\n", "does not say of which version it is"),
        (b"[", "does not say of which version it is"),
    ],
)
def test_an_unknown_version_is_refused(package: Path, tmp_path: Path, metadata: bytes, message: str) -> None:
    assert message in refusal(with_files(package, tmp_path / "x.nequip.zip", {METADATA: metadata}))


@pytest.mark.parametrize("kept", [0.1, 0.9, 0.999])
def test_a_package_that_is_cut_off_is_refused(package: Path, tmp_path: Path, kept: float) -> None:
    path, content = tmp_path / "x.nequip.zip", package.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "is not a readable package; it may be cut off" in refusal(path)
    with pytest.raises(CheckpointError, match="cut off"):
        adapter_for(path).read(path)  # which is asked because of the suffix


def test_a_package_with_a_file_outside_its_folder_is_refused(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.nequip.zip"
    shutil.copy(package, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("elsewhere/notes.txt", "")
    assert "is not a readable package" in refusal(path)


def test_a_tensor_that_lacks_numbers_is_refused(package: Path, tmp_path: Path) -> None:
    path = with_files(package, tmp_path / "x.nequip.zip", {".data/20.storage": b""})
    assert "is not a readable package" in refusal(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"x": 1}, tmp_path / "other.nequip.zip")
    assert f"has no {METADATA} beside {MODEL}" in refusal(tmp_path / "other.nequip.zip")
    (tmp_path / "best.ckpt").write_bytes(b"")
    assert "nequip-package build best.ckpt best.nequip.zip" in refusal(tmp_path / "best.ckpt")
    assert "There is no file" in refusal(tmp_path / "nothing.nequip.zip")
    assert not NequIPAdapter().recognises(tmp_path / "other.nequip.zip")


def _model(package: Path) -> StandIn:
    return Package(package).module(MODEL, PACKAGES).state["_modules"]["sole_model"]


def _network(model: StandIn) -> StandIn:
    return model.model.func  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: n.state["_modules"].update(pair_potential=type("ZBL", (StandIn,), {"origin": "x.ZBL"})()), "(ZBL)"),
        (lambda n: n.edge_norm.state.update(_per_edge_type=True), "per_edge_type_cutoff"),
        (lambda n: n.type_embed.state.update(do_categorical_graph_field_embed=True), "categorical_graph_field_embed"),
        (lambda n: n.layer1_convnet.state.update(resnet=True), "convnet_resnet"),
        (lambda n: setattr(type(n.layer1_convnet.equivariant_nonlin), "origin", "x.NormActivation"), "NormActivation"),
        (lambda n: n.state["_modules"].pop("factor"), "factor: ApplyFactor"),
        (lambda n: n.factor.state.update(factor=1.0), "the factor 1.0"),
        (lambda n: n.layer0_convnet.conv.edge_mlp.state.update(bias=True), "its radial network"),
        (lambda n: n.layer1_convnet.conv.state.update(use_sc=False), "self-connections by layer"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    package: Path, monkeypatch: pytest.MonkeyPatch, change: object, message: str
) -> None:
    model = _model(package)
    gate = type(_network(model).layer1_convnet.equivariant_nonlin)
    monkeypatch.setattr(gate, "origin", gate.origin)  # set back afterwards
    change(_network(model))  # type: ignore[operator]
    with pytest.raises(CheckpointError) as caught:
        architecture_of(model)
    assert message in str(caught.value)


def test_atom_types_that_are_no_elements_are_refused(package: Path) -> None:
    model = _model(package)
    model.state["type_names"] = ["H", "O1", "Si", "Cu"]
    with pytest.raises(CheckpointError, match="its atom types are H, O1, Si, Cu"):
        architecture_of(model)


def test_irreps_that_no_path_leads_to_are_not_written(tmp_path: Path) -> None:
    """Harmonics of low l lead to fewer irreps; where hidden features are cut alike, it is upstream's model again."""
    parent = Potential.create(NequIPAdapter(), random_checkpoint(architecture()), torch.float64)
    child = prune(parent, allocate(parent, [EdgeLmax(1)]))
    assert reached(child.architecture)[0] == "4x0e+3x1o"
    with pytest.raises(OutputError, match=r"leads to all of 4x0e\+3x1o\+2x2e in layer 0, .* would build 4x0e\+3x1o\."):
        save(child, tmp_path / "x.nequip.zip")
    assert export.why_not(prune(parent, allocate(parent, [EdgeLmax(1), Lmax(1)])).architecture) == ""


@pytest.mark.slow
@pytest.mark.supports("NequIP (random weights)", "opens")
@pytest.mark.supports("NequIP (random weights)", "exports")
@pytest.mark.supports("NequIP (random weights)", "stock tool")
def test_stock_calculator_in_a_new_process(package: Path, tmp_path: Path) -> None:
    """Energies of atoms, forces and stress of ``NequIPCalculator``, which runs the package's code, to rounding."""
    potential = Potential.create(NequIPAdapter(), small(), torch.float64)
    structures = list(probe_structures(potential.elements).values())[:2]
    write(tmp_path / "given.extxyz", structures)
    program = f"""
import json, ase.io
from nequip.integrations.ase import NequIPCalculator
calculator = NequIPCalculator._from_saved_model({str(package)!r}, chemical_species_to_atom_type_map=True)
def seen(atoms):
    atoms.calc = calculator
    results = atoms.get_potential_energies(), atoms.get_forces(), atoms.get_stress(voigt=False)
    return [result.tolist() for result in results]
print(json.dumps([seen(atoms) for atoms in ase.io.read({str(tmp_path / "given.extxyz")!r}, ":")]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    from ase.io import read

    read_back = read(tmp_path / "given.extxyz", ":")  # positions in text have fewer digits
    theirs = json.loads(done.stdout.splitlines()[-1])
    for found, ours in zip(theirs, potential.predict(read_back), strict=True):
        for stock, own in zip(found, (ours.atom_energies, ours.forces, ours.stress), strict=True):
            assert (torch.tensor(stock, dtype=torch.float64) - own).abs().max() < 1e-12


def test_a_package_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x.nequip.zip"
    with pytest.raises(OutputError, match="cannot be written"):
        export.write(small(), path)
