"""``equiprune discovery``: from files to predictions, interrupted anywhere, and what is refused."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from command_line import Run, contents
from toy_files import toy_model

from equiprune import commands
from equiprune.commands.options.sharing import Launched
from equiprune.errors import TargetError
from equiprune.evaluation.discovery import relaxation
from equiprune.files.shared_work import Role, Share, UnfinishedError

NAMES = ("wbm-1-1", "wbm-1-2", "wbm-1-3", "wbm-1-4", "wbm-1-5")
CRYSTALS = (
    bulk("Si", "diamond", a=5.4),
    bulk("SiC", "zincblende", a=4.4),
    bulk("C", "diamond", a=3.6),
    bulk("Si", "fcc", a=3.9),
    bulk("MgO", "rocksalt", a=4.2),
)
"""The toy knows no Mg."""
HULL = (-0.1, 0.1, -0.2, 0.3, 0.0)


@pytest.fixture
def initial(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "initial.extxyz.zip", "w") as archive:
        for name, atoms in zip(NAMES, CRYSTALS, strict=True):
            named, text = atoms.copy(), io.StringIO()
            named.info["material_id"] = name
            ase.io.write(text, named, format="extxyz")
            archive.writestr(f"{name}.extxyz", text.getvalue())
    return tmp_path / "initial.extxyz.zip"


def energies(toy: Any) -> list[float]:
    """The toy's own, and a guess for what it does not know; eV of the cell."""
    return [toy.predict([atoms])[0].energy.item() for atoms in CRYSTALS[:-1]] + [-12.0]


@pytest.fixture
def summary(tmp_path: Path, toy: Any) -> Path:
    lines = [
        "material_id,formula,n_sites,uncorrected_energy,e_form_per_atom_mp2020_corrected,"
        "e_above_hull_mp2020_corrected_ppd_mp,unique_prototype"
    ]
    for name, atoms, energy, hull in zip(NAMES, CRYSTALS, energies(toy), HULL, strict=True):
        formula = " ".join(f"{symbol}{n}" for symbol, n in atoms.symbols.formula.count().items())
        lines.append(f"{name},{formula},{len(atoms)},{energy},-0.5,{hull},{name != NAMES[2]}")
    (tmp_path / "summary.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path / "summary.csv.gz"


@pytest.fixture
def words(initial: Path, summary: Path) -> list[object]:
    """A command line without its output."""
    return ["discovery", "toy", "--initial", initial, "--summary", summary, "--steps", 2, "--dtype", "float64"]


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines()))


@pytest.mark.slow
def test_models_stand_side_by_side(cli: Run, words: Sequence[object], tmp_path: Path) -> None:
    other, out = toy_model(tmp_path / "other"), tmp_path / "wbm"
    first, model, *rest = words
    ran = cli(first, model, other, *rest, "-o", out, "--leaderboard")
    assert ran.code == 0, ran.err
    assert "Relaxations of 5 materials" in ran.out
    assert "The 4 materials that all models finished" in ran.out
    assert "The 4 unique prototypes of the materials that all models finished" in ran.out
    value = json.loads((out / "result.json").read_text())
    assert (value["materials"], value["available"], value["shared"]) == (5, 5, 4)
    assert [model["unknown_elements"] for model in value["models"]] == [1, 1]
    assert [row["outcome"] for row in rows(out / "toy.csv.gz")][-1] == "unknown_elements"
    found = yaml.safe_load((out / "toy.yml").read_text())
    assert found["metrics"]["discovery"]["full_test_set"]["missing_preds"] == 1


def test_a_model_at_rest_has_the_energies_that_it_gave(cli: Run, words: Sequence[object], tmp_path: Path) -> None:
    """DFT's energies are those of the toy at the start, and no force is too large to stay there."""
    ran = cli(*words, "--fmax", 1e6, "-o", tmp_path / "wbm", "--json")
    assert ran.code == 0, ran.err
    [model] = ran.json["models"]
    assert model["outcomes"]["converged"] == 4
    found = model["on_shared"]["full_test_set"]
    assert (found["F1"], found["TP"], found["TN"]) == (1, 2, 2)
    assert found["MAE"] == pytest.approx(0, abs=1e-9)
    assert (model["on_all"]["full_test_set"]["FN"], model["missing"]) == (1, 1)
    assert [float(row["e_form_per_atom_toy"] or "nan") for row in rows(tmp_path / "wbm" / "toy.csv.gz")][:4] == [
        -0.5
    ] * 4
    assert ran.json["written"] == [str(tmp_path / "wbm" / name) for name in ("toy.csv.gz", "result.json")]


@pytest.mark.slow
def test_from_python_it_is_one_call(words: Sequence[Any], tmp_path: Path) -> None:
    made = commands.Discovery(
        ["toy"], initial=words[3], summary=words[5], steps=2, dtype="float64", output=tmp_path / "out", sample=3, seed=1
    ).run()
    assert (len(made.result.materials), made.result.available) == (3, 5)
    again = commands.Discovery(
        ["toy"], initial=words[3], summary=words[5], steps=2, dtype="float64", output=tmp_path / "all"
    ).run()
    whole, some = (each.result.models[0].predictions for each in (again, made))
    assert some.items() <= whole.items()


@pytest.mark.slow
def test_an_interrupted_command_goes_on(
    cli: Run, words: Sequence[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cli(*words, "-o", tmp_path / "whole", "--json").json
    relaxed: list[Atoms] = []

    def interrupted(start: Atoms, *more: Any) -> Any:
        relaxed.append(start)
        if len(relaxed) == 3:
            raise KeyboardInterrupt
        return relax(start, *more)

    relax = relaxation.relax
    monkeypatch.setattr(relaxation, "relax", interrupted)
    ran = cli(*words, "-o", tmp_path / "cut")
    assert ran.code == 2
    assert f"Interrupted; {tmp_path / 'cut' / 'relaxations'} keeps what was finished. Repeat the command" in ran.err
    assert not (tmp_path / "cut" / "result.json").exists()
    ran = cli(*words, "-o", tmp_path / "cut", "--json")
    assert "Going on from" in ran.err
    assert len(relaxed) == 3 + 2
    assert ran.json["models"] == whole["models"]
    assert (tmp_path / "cut" / "toy.csv.gz").read_bytes() == (tmp_path / "whole" / "toy.csv.gz").read_bytes()


@pytest.mark.slow
def test_several_processes_give_the_same_bytes(words: Sequence[Any], tmp_path: Path) -> None:
    def asked(folder: str) -> commands.Discovery:
        more = {"steps": 2, "dtype": "float64", "output": tmp_path / folder}
        return commands.Discovery(["toy"], initial=words[3], summary=words[5], **more)

    asked("alone").run()
    with pytest.raises(UnfinishedError):
        asked("shared").take_part(Launched(Share(1, 2, Role.HELPS)))
    asked("shared").take_part(Launched(Share(0, 2)))
    with pytest.raises(UnfinishedError, match="is there already"):
        asked("shared").take_part(Launched(Share(1, 2, Role.MAY_BE_LAST)))
    for name in ("toy.csv.gz", "result.json"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes()


@pytest.mark.slow
def test_what_is_finished_is_not_overwritten(cli: Run, refused: Run, words: Sequence[object], tmp_path: Path) -> None:
    assert cli(*words, "-o", tmp_path / "wbm").code == 0
    refused(*words, "-o", tmp_path / "wbm", says=("result.json' exists and is never overwritten",))
    (tmp_path / "wbm" / "result.json").unlink()
    before = contents(tmp_path / "wbm" / "relaxations")
    assert cli(*words, "-o", tmp_path / "wbm").code == 0
    assert contents(tmp_path / "wbm" / "relaxations") == before


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused(cli: Run, words: Sequence[object], tmp_path: Path) -> None:
    assert cli(*words, "-o", tmp_path / "wbm").code == 0
    (tmp_path / "wbm" / "result.json").unlink()
    ran = cli(*words, "--fmax", 0.01, "-o", tmp_path / "wbm")
    assert ran.code == 2
    assert "is work on another model, other data or other settings" in ran.err


def test_files_of_others_are_left_alone(refused: Run, words: Sequence[object], tmp_path: Path) -> None:
    (tmp_path / "wbm").mkdir()
    (tmp_path / "wbm" / "toy.csv.gz").write_text("mine")
    refused(*words, "-o", tmp_path / "wbm", says="toy.csv.gz' exists and is never overwritten")


@pytest.fixture
def described(tmp_path: Path, toy: Any) -> Path:
    """Structures that say all of themselves."""
    made = []
    for name, atoms, energy in zip(NAMES, CRYSTALS, energies(toy), strict=True):
        info = {"id": name, "corrected_energy": energy - 0.2, "eform_per_atom": -0.4}
        described = Atoms(atoms, info={**info, "corrected_eform_per_atom": -0.4 - 0.2 / len(atoms)})
        described.calc = SinglePointCalculator(described, energy=energy)
        made.append(described)
    ase.io.write(tmp_path / "described.extxyz", made, format="extxyz")
    return tmp_path / "described.extxyz"


@pytest.mark.slow
def test_structures_alone_are_enough(cli: Run, described: Path, tmp_path: Path) -> None:
    ran = cli("discovery", "toy", "--initial", described, "--steps", 1, "-o", tmp_path / "wbm")
    assert ran.code == 0, ran.err
    assert "No convex hull was given: stable is what forms from its elements" in ran.out


@pytest.mark.slow
def test_distances_from_the_start_and_from_entries(
    cli: Run, described: Path, words: Sequence[object], tmp_path: Path
) -> None:
    pytest.importorskip("pymatgen")
    from pymatgen.core import Structure

    ran = cli("discovery", "toy", "--initial", described, "--steps", 1, "--rmsd", "-o", tmp_path / "alone", "--json")
    assert 0 <= ran.json["models"][0]["rmsd"] < 0.1
    lines = []
    for name, atoms in zip(NAMES, CRYSTALS, strict=True):
        structure = Structure(atoms.cell.array, atoms.numbers, atoms.get_scaled_positions()).as_dict()
        entry = {"structure": structure, "energy": -1.0, "parameters": {"run_type": "GGA"}, "data": {}}
        lines.append(json.dumps({"material_id": name, "computed_structure_entry": entry}))
    entries = tmp_path / "entries.jsonl"
    entries.write_text("\n".join(lines))
    ran = cli(*words, "--entries", entries, "-o", tmp_path / "entries_too", "--json")
    assert ran.code == 0, ran.err
    assert 0 <= ran.json["models"][0]["rmsd"] < 0.1
    entries.write_text(lines[0])
    ran = cli(*words, "--entries", entries, "-o", tmp_path / "too_few")
    assert ran.code == 2
    assert "There is no entry of 3 relaxed materials" in ran.err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--sample", 6], "--sample 6 is not possible: there are 5 materials"),
        (["--sample", 0], "--sample"),
        (["--fmax", 0], "--fmax 0.0 is not possible: give more than 0"),
        (
            ["--rmsd"],
            "--rmsd compares with the initial structures, which a --summary is not of. Give --entries instead",
        ),
        (["--device", "cuda:77"], "--device cuda:77 is not available here"),
        (["--entries", "nowhere.jsonl.gz"], "There is no file of computed structure entries (.jsonl)"),
        (["--summary", "nowhere.csv.gz"], "There is no summary of materials (.csv) at 'nowhere.csv.gz'"),
        (["--initial", "nowhere.zip"], "There is no zip file of structures at 'nowhere.zip'"),
    ],
)
def test_what_cannot_be_done_is_refused(
    more: list[object], says: str, cli: Run, words: Sequence[object], tmp_path: Path
) -> None:
    given = dict(zip(words[2::2], words[3::2], strict=True))
    given |= dict([more]) if len(more) == 2 else {}
    switches = more if len(more) == 1 else []
    ran = cli(*words[:2], *(word for pair in given.items() for word in pair), *switches, "-o", tmp_path / "wbm")
    assert ran.code == 2
    assert says in ran.err
    assert not (tmp_path / "wbm").exists()


def test_what_contradicts_itself_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="`entries` are those of the materials of a `summary`"):
        commands.Discovery(["toy"], initial="a.zip", entries="b.jsonl.gz", output=tmp_path / "wbm")
    with pytest.raises(TargetError, match="would write the same files"):
        commands.Discovery(["runs/a", "runs-a"], initial="a.zip", summary="b.csv", output=tmp_path / "wbm")


def test_a_model_that_knows_none_of_the_elements_is_refused(cli: Run, words: Sequence[object], tmp_path: Path) -> None:
    toy_model(tmp_path / "hydrogen", elements=(1,))
    first, _, *rest = words
    ran = cli(first, "toy", tmp_path / "hydrogen", *rest, "-o", tmp_path / "wbm")
    assert ran.code == 2
    assert "knows the elements of none of the materials" in ran.err
    assert not (tmp_path / "wbm").exists()
