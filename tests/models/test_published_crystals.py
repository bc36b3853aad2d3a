"""Crystals of published tables are read from an archive as they were written there."""

import csv
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

SALT = bulk("NaCl", "rocksalt", a=5.6)
SILICON = bulk("Si", "diamond", a=5.4)


@pytest.fixture(autouse=True)
def _benchmarks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    monkeypatch.delitem(sys.modules, "published", raising=False)


def archive_of(tables: dict[str, str], path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in tables.items():
            entry = tarfile.TarInfo(f"matminer/datasets/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def table(*rows: list[str]) -> str:
    text = io.StringIO("# a reference\n")
    text.seek(0, io.SEEK_END)
    csv.writer(text).writerows(rows)
    return text.getvalue()


def tables() -> dict[str, str]:
    poscar = io.StringIO()
    write(poscar, SALT, format="vasp")
    lines = ["Na1 Cl1", "1.0", *poscar.getvalue().splitlines()[2:]]
    sites = [{"species": [{"element": "Si"}], "abc": place} for place in SILICON.get_scaled_positions().tolist()]
    structure = {"lattice": {"matrix": SILICON.cell.array.tolist()}, "sites": sites}
    return {
        # One column more than the header has, and a cell of several lines before, as in the tables.
        "dielectric_constant.csv": table(["idx", "poscar"], ["0", "#\\#CIF1.1\n\ndata", "\n".join(lines), "NaCl"]),
        "flla_2015.csv": table(["material_id", "structure"], ["mp-149", str(structure)]),
        "other.csv": table(["idx"], ["0"]),
    }


def test_both_kinds_of_tables_are_read(tmp_path: Path) -> None:
    from published import published

    salt, silicon = published(archive_of(tables(), tmp_path / "matminer.tar.gz"))
    for found, expected in ((salt, SALT), (silicon, SILICON)):
        assert found.get_chemical_formula() == expected.get_chemical_formula()
        np.testing.assert_allclose(found.cell.array, expected.cell.array, atol=1e-9)
        np.testing.assert_allclose(found.positions, expected.positions, atol=1e-9)
        assert found.pbc.all()


def test_an_archive_without_them_is_refused(tmp_path: Path) -> None:
    from published import published

    with pytest.raises(SystemExit, match=r"has no crystals: give the source of matminer 0\.2\.6"):
        published(archive_of({"other.csv": "idx\n0\n"}, tmp_path / "other.tar.gz"))
