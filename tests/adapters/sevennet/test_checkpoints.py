"""Official checkpoints come in as upstream itself reads them."""

import shutil
import warnings
from pathlib import Path

import pytest
import torch
from ase import Atoms
from random_models import architecture, random_checkpoint

import equiprune as ep
from equiprune.adapters.sevennet import SevenNetAdapter, export, published
from equiprune.adapters.sevennet.architecture import Rescale

pytestmark = pytest.mark.usefixtures("plain_code")

TRAINABLE = {"7net-0": 842_440, "7net-0_22may2024": 842_440, "7net-l3i5": 1_171_144, "7net-mf-0": 845_896}


@pytest.mark.parametrize("name", TRAINABLE)
@pytest.mark.supports("SevenNet (7net-0, 7net-l3i5)", "opens")
def test_weights_and_constants_are_those_of_upstreams_loader(name: str) -> None:
    """Column order, Clebsch-Gordan signs and old names included, bit by bit."""
    from sevenn.util import load_checkpoint

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        upstream = load_checkpoint(name).build_model().state_dict()
    ours = ep.load(name, head="PBE" if name == "7net-mf-0" else None)
    assert ours.parameters(trainable_only=True) == TRAINABLE[name]
    assert ours.module.state_dict().keys() == upstream.keys()
    assert [key for key, value in upstream.items() if not torch.equal(value, ours.module.state_dict()[key])] == []


@pytest.mark.parametrize("name", ["model.PTH", "model.ckpt", "model"])
@pytest.mark.parametrize("alias", ["7net-0_22may2024", "7net-l3i5", "7net-mf-0"])
def test_a_published_file_opens_under_any_name(alias: str, name: str, tmp_path: Path) -> None:
    shutil.copy(published.shipped(alias) or "", tmp_path / name)
    found, expected = ep.read_checkpoint(tmp_path / name)[1], ep.read_checkpoint(alias)[1]
    assert (found.architecture, found.sha256) == (expected.architecture, expected.sha256)


@pytest.mark.parametrize(("name", "head"), [("7net-0", None), ("7net-l3i5", None), ("7net-mf-0", "R2SCAN")])
def test_predictions_are_those_of_the_stock_calculator(name: str, head: str | None, probes: list[Atoms]) -> None:
    from sevenn.calculator import SevenNetCalculator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stock = SevenNetCalculator(name, device="cpu", modal=head)
    for atoms, ours in zip(probes, ep.load(name, head=head).predict(probes), strict=True):
        atoms = atoms.copy()
        atoms.calc = stock
        assert abs(atoms.get_potential_energy() - ours.energy.item()) < 2e-5 * len(atoms)
        torch.testing.assert_close(torch.tensor(atoms.get_forces()), ours.forces, atol=5e-5, rtol=1e-4)
        shares = torch.tensor(stock.results["energies"])
        torch.testing.assert_close(shares, ours.atom_energies, atol=2e-5, rtol=1e-5, check_dtype=False)
        torch.testing.assert_close(
            torch.tensor(atoms.get_stress(voigt=False)), ours.stress, atol=5e-6, rtol=1e-4, check_dtype=False
        )


def test_an_old_version_tag_on_a_converted_file_is_silently_wrong_upstream(
    parent: ep.Potential, probes: list[Atoms], tmp_path: Path
) -> None:
    """Why exports carry the installed version: under 0.9.2 sevenn reorders the columns once more, without a word."""
    path = tmp_path / "tagged.pth"
    export.write(parent.checkpoint, path)
    right = export.stock_energies(path, probes[:1], None)
    content = torch.load(path, weights_only=False)
    assert content["config"]["version"] >= "0.11"
    content["config"]["version"] = "0.9.2"
    torch.save(content, path)
    wrong = export.stock_energies(path, probes[:1], None)
    assert abs(right[0] - parent.predict(probes[:1])[0].energy.item()) < 1e-4
    assert abs(wrong[0] - right[0]) > 1e-3


def test_building_in_float64_leaves_torchs_default_alone(parent: ep.Potential) -> None:
    before = torch.get_default_dtype()
    parent.adapter.build(parent.architecture, torch.float64)
    assert torch.get_default_dtype() is before


def test_float64_is_float64_all_the_way(parent: ep.Potential, probes: list[Atoms]) -> None:
    """Upstream casts to float32 in places; energies would then be equivariant to 1e-7 only."""
    values = ep.equivariance(parent, probes)
    assert values["equivariance.energy"] < 1e-12
    assert values["equivariance.forces"] < 1e-12


def test_a_single_element_keeps_its_kind_of_energy_shift(tmp_path: Path) -> None:
    """Global and per-element constants have one shape then; a certificate must not trip over the difference."""
    for rescale in (Rescale.GLOBAL, Rescale.PER_ELEMENT):
        parent = ep.Potential.create(SevenNetAdapter(), random_checkpoint(architecture(rescale=rescale)))
        ep.save(parent, tmp_path / f"{rescale}.pth")
        parent = ep.load(tmp_path / f"{rescale}.pth")
        ep.save(ep.prune(parent, ep.allocate(parent, [ep.Elements((14,))])), tmp_path / f"{rescale}-si.pth")
        child = ep.load(tmp_path / f"{rescale}-si.pth")
        assert child.architecture.rescale is rescale
        assert ep.certify(child, parent, nve_steps=1).values["stored_weights"] == 0
