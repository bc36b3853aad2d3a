"""The shipped Nequix, exported, is the same in stock Nequix, and keeps its licence and history."""

from pathlib import Path

import pytest

import equiprune as ep
from equiprune.adapters.nequix import export

NAME = "nequix-compact"


@pytest.mark.slow
@pytest.mark.supports("Nequix (the official files)", "stock tool")
@pytest.mark.parametrize("suffix", [".pt", ".nqx"])
def test_it_is_exported_whole(suffix: str, tmp_path: Path) -> None:
    """A child of OAM-1: Nequix's torch model opens the one, its calculator with jax the other where jax is there."""
    shipped = ep.load(NAME)
    probes = list(ep.probe_structures([3, 8, 14, 29]).values())[:2]
    ours = [prediction.energy.item() for prediction in shipped.predict(probes)]
    path = tmp_path / f"compact{suffix}"
    export.write(shipped.checkpoint, path)
    for stock, our, atoms in zip(export.stock_energies(path, probes), ours, probes, strict=True):
        assert abs(stock - our) < 3e-5 * len(atoms)
    opened = ep.read_checkpoint(path)[1]
    assert (opened.licence, opened.history) == (shipped.checkpoint.licence, shipped.checkpoint.history)


def test_without_jax_it_is_said_that_the_torch_model_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda package: None)
    path = tmp_path / "compact.nqx"
    shipped = ep.load(NAME)
    export.write(shipped.checkpoint, path)
    [atoms] = list(ep.probe_structures([14]).values())[:1]
    [energy] = export.stock_energies(path, [atoms])
    assert energy == pytest.approx(shipped.predict([atoms])[0].energy.item(), abs=1e-4)
    assert "was compared by Nequix's torch model: for its JAX model, pip install jax e3nn-jax" in caplog.text
