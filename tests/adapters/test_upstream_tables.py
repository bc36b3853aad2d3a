"""Tables of text are read from the source of a package, whatever else is in it, and nothing of it is run."""

import sys
from pathlib import Path

import pytest

from equiprune.adapters.upstream_tables import package_folder, text_tables, upstream_tables

CODE = """
import os
raise RuntimeError("never run")
prefix = os.path.abspath("models")
base: str = "https://x.org"
small = f"{prefix}/small.model"
urls = {"small": f"{base}/small", small: base, **{}}
addresses = {"small": f"{base}/small.model", small: "y"}
number, other = 3, "text"
count = {"three": 3}
base = "https://later.org"

def function(argument):
    inner = {"large": "https://x.org/large"}
"""


def test_text_is_read_and_nothing_else() -> None:
    assert text_tables(CODE, known={"prefix": "/models"}) == {
        "prefix": "/models",
        "base": "https://x.org",
        "small": "/models/small.model",
        "addresses": {"small": "https://x.org/small.model", "/models/small.model": "y"},
    }


def test_what_depends_on_an_unknown_name_is_left_out() -> None:
    assert text_tables(CODE) == {"base": "https://x.org"}


def test_the_constants_of_a_function_are_asked_for_by_its_name() -> None:
    assert text_tables(CODE, "function") == {"inner": {"large": "https://x.org/large"}}
    assert text_tables(CODE, "other") == {}


@pytest.mark.parametrize("content", [b"urls = {", b"urls = '\xff'", None])
def test_a_package_whose_module_is_missing_or_no_python_has_no_tables(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "written_here").mkdir()
    (tmp_path / "written_here" / "__init__.py").write_text("raise RuntimeError")
    if content is not None:
        (tmp_path / "written_here" / "tables.py").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    assert package_folder("written_here") == tmp_path / "written_here"
    assert upstream_tables("written_here", "tables.py") == {}
    assert "written_here" not in sys.modules


def test_a_package_that_is_not_installed_has_no_tables() -> None:
    assert package_folder("no_such_package") is None
    assert upstream_tables("no_such_package", "tables.py") == {}
