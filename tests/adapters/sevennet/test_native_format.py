"""Native files of this architecture: old ones mean what they meant, and no hyperparameter is guessed."""

from pathlib import Path

import pytest
from golden_files import GoldenModel, Place, added, left_out, mistyped, objects, places

GOLDEN = (
    GoldenModel("sevennet-format-2", 1.5006556733445962, "b"),
    GoldenModel("sevennet-readout-format-2", -0.45929254745420156),
)
FIELDS = [(golden, place) for golden in GOLDEN for place in places(golden.description["architecture"])]
OBJECTS = [
    (golden, place) for golden in GOLDEN for place in sorted(objects(golden.description["architecture"]), key=str)
]


@pytest.mark.parametrize("golden", GOLDEN, ids=str)
def test_an_old_file_gives_the_energy_it_gave_when_written(golden: GoldenModel) -> None:
    golden.assert_means_the_same()


@pytest.mark.parametrize(("golden", "place"), FIELDS, ids=str)
def test_no_field_may_be_missing_or_of_another_type(golden: GoldenModel, place: Place, tmp_path: Path) -> None:
    for name, change in (("left_out", left_out), ("mistyped", mistyped)):
        (tmp_path / name).mkdir()
        golden.assert_refused(tmp_path / name, place, change)


@pytest.mark.parametrize(("golden", "place"), OBJECTS, ids=str)
def test_no_field_may_be_added(golden: GoldenModel, place: Place, tmp_path: Path) -> None:
    golden.assert_refused(tmp_path, (*place, "unheard_of"), added)
