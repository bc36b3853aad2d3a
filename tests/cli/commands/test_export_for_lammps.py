"""``equiprune export --lammps``: the script is beside the model, or nothing is written at all."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from ase import Atoms
from command_line import Run, contents

import equiprune as ep
from equiprune.adapters import Architecture, Checkpoint, registry
from equiprune.adapters.pair_style import PairStyle
from equiprune.adapters.toy import ToyAdapter


class ToyInLammps(ToyAdapter):
    """The toy with a file format, ``.toy``, and a pair style of LAMMPS that reads it."""

    suffixes = (".toy",)

    def read(self, source: str | Path, *, trust: bool = False) -> Checkpoint:
        return super().read("toy" if str(source).endswith(".toy") else source)

    def why_not_exported(self, _: Architecture) -> str:
        return ""

    def export(self, _: Checkpoint, path: Path) -> tuple[Path, ...]:
        path.write_text("a toy")
        return (path,)

    def stock_energies(self, _: Path, structures: Sequence[Atoms], __: str | None) -> list[float]:
        return [prediction.energy.item() for prediction in ep.load("toy").predict(structures)]

    def pair_styles(self, _: Architecture, file: str, __: str | None) -> Iterable[PairStyle]:
        return [PairStyle("one process", f"deploy {file}", "toy", (f"{file}.pt",))]


@pytest.fixture
def exporting(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is the toy."""
    opened = registry._opened
    monkeypatch.setattr(registry, "_opened", lambda name: ToyInLammps() if name == "toy" else opened(name))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("exporting")
@pytest.mark.parametrize("elements", [["Si", "C"], ["si,c"], ["14", "6"]])
def test_the_script_is_for_the_file_and_its_elements_in_their_order(
    elements: list[str], cli: Run, folder: Path
) -> None:
    ran = cli("export", "toy", "-o", "a.toy", "--lammps", "in.a", "--elements", *elements, "--json")
    assert ran.json == {"written": ["a.toy", "in.a"]}
    text = (folder / "in.a").read_text()
    assert "pair_coeff  * * a.toy.pt Si C\n" in text
    assert "mass        1 28.085" in text
    assert "-in in.a\n" in text


@pytest.mark.usefixtures("exporting")
def test_all_elements_of_a_small_model_are_its_types(cli: Run, folder: Path) -> None:
    ran = cli("export", "toy", "-o", folder / "a.toy", "--lammps", "in.a")
    assert "a.toy\n" in ran.out
    assert "Input script for LAMMPS: in.a." in ran.out
    assert "pair_coeff  * * a.toy.pt H C O Si\n" in (folder / "in.a").read_text()


@pytest.mark.usefixtures("exporting")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "a.toy", "--elements", "Si"], ("--elements are for the input script", "--lammps too")),
        (["-o", "a.toy", "--lammps", "in.a", "--elements", "Li"], "does not know Li. It knows H, C, O, Si"),
        (["-o", "a.toy", "--lammps", "in.a", "--elements", "Xx"], "no chemical symbol"),
        (["-o", "a.toy", "--lammps", "in.a", "--elements", ""], "Name at least one of --elements"),
        (["-o", "a.toy", "--lammps", "in a"], "could mean something else"),
        (["-o", "a.toy", "--lammps", "there/in.a"], ("goes beside the model", "--lammps 'in.lammps'")),
        (["-o", "a.toy", "--lammps", "a.toy"], "goes beside the model"),
        (["-o", "a.toy", "--lammps", "taken"], ("'taken' exists", "never overwritten")),
        (["-o", "a", "--lammps", "in.a"], ("has no suffix", ".toy")),
        (["-o", "a.symmetrix.json", "--lammps", "in.a"], ("is what symmetrix reads", "Write the script beside")),
    ],
)
def test_what_cannot_be_a_script_is_refused_before_the_model_is_written(
    words: list[str], says: str, refused: Run, folder: Path
) -> None:
    (folder / "taken").touch()
    refused("export", "toy", *words, says=says)
    assert contents(folder).keys() == {str(folder / "taken")}


def test_models_without_a_pair_style_are_refused_with_the_way_that_works(refused: Run, folder: Path) -> None:
    refused(
        *("export", "toy", "-o", "a", "--lammps", "in.a"),
        says=("No pair style of LAMMPS is known for toy models", "--engine lammps"),
    )
    assert contents(folder) == {}
