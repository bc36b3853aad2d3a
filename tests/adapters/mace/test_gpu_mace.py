"""The stage of MACE for a machine with a GPU runs here on the CPU, with ``--small``."""

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_code")]


@pytest.fixture(autouse=True)
def _benchmarks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


def test_all_models_are_timed_and_what_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu import mace

    monkeypatch.setattr(mace, "fits", lambda model, atoms: "2e" not in model.architecture.steps[0].hidden_irreps)
    mace.main(["--device", "cpu", "--small", "-o", str(tmp_path / "mace.json")])
    written = json.loads((tmp_path / "mace.json").read_text())
    *timed, refused = written["rows"]
    assert written["device"] == "cpu"
    names = [row["model"] for row in timed]
    random = [f"L={l}, 4 channels, random weights" for l in (0, 1, 2)]
    assert names == ["random parent", "random parent, 2 channels", *random[:2]]
    assert all(row["atoms"] == 8 and row["atoms_per_second"] > 0 and row["peak_memory_bytes"] > 0 for row in timed)
    assert refused == {"model": random[2], "atoms": 8, "failed": "out of memory"}


def test_a_model_that_is_not_here_leaves_the_others(tmp_path: Path) -> None:
    from benchmarks.gpu import mace

    mace.main(["--device", "cpu", "--small", "--model", str(tmp_path / "none"), "-o", str(tmp_path / "mace.json")])
    rows = json.loads((tmp_path / "mace.json").read_text())["rows"]
    failed = [row["model"] for row in rows if "failed" in row]
    assert failed == ["MACE-MP-0 small", "MACE-MP-0 small, 2 channels", "MACE-MP-0 small, lossless"]
    assert len(rows) == len(failed) + 3


def test_memory_that_is_out_is_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu import mace

    class Model:
        device = torch.device("cpu")

        def __init__(self, error: Exception) -> None:
            self.error = error

        def graph(self, structures: object) -> None: ...

        def differentiate(self, graph: object) -> None:
            raise self.error

    assert not mace.fits(Model(MemoryError()), mace.crystal(8))
    with pytest.raises(RuntimeError, match="shapes"):
        mace.fits(Model(RuntimeError("shapes")), mace.crystal(8))
