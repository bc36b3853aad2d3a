"""Memory of a process: measured in one of its own, up to a limit, and compared with that of the tensors."""

import pytest
from ase.build import bulk

import equiprune as ep
from equiprune.errors import TargetError
from equiprune.evaluation.places import Evaluated, Place
from equiprune.searching import process_memory
from equiprune.searching.cost_model import Conditions, memory_line
from equiprune.searching.process_memory import check_memory, overhead, peak_of

TIMED = Conditions(bulk("Si", cubic=True), 2)
GB = 1e9


class PretendedPlace(Place):
    """A place where every atom needs a megabyte."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[tuple[int, int]] = []

    def __exit__(self, *_: object) -> None:
        """Nothing to leave."""

    def evaluated(self, copies: int, times: int = 1) -> Evaluated | None:
        self.asked.append((copies, times))
        peak = 10**6 * 8 * copies
        return Evaluated(seconds=1.0, peak=peak) if peak <= self.most else None


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[PretendedPlace]:
    """Places that models were measured in, on a machine with 1 GB for a model."""
    made: list[PretendedPlace] = []

    def place(*given: object) -> PretendedPlace:
        most = given[-1]
        assert isinstance(most, int)
        made.append(PretendedPlace(most))
        return made[-1]

    monkeypatch.setattr(process_memory, "_available", lambda _: GB)
    monkeypatch.setattr(process_memory, "InLimitedProcess", place)
    return made


def test_the_peak_is_the_worst_of_some_evaluations(toy: ep.Potential, places: list[PretendedPlace]) -> None:
    assert peak_of(toy, TIMED, 3, 0.5 * GB) == 24e6
    [place] = places
    assert place.most == 0.5 * GB
    assert place.asked == [(3, 3)]


def test_no_more_is_given_than_is_allowed_or_there_is(toy: ep.Potential, places: list[PretendedPlace]) -> None:
    assert peak_of(toy, TIMED, 3, 23e6) is None
    assert peak_of(toy, TIMED, 126, 5 * GB) is None
    assert [place.most for place in places] == [23e6, GB]


@pytest.mark.usefixtures("places")
def test_the_overhead_is_the_median_of_models_that_could_be_measured(toy: ep.Potential) -> None:
    found = overhead([(toy, 20e6), (toy, 16e6), (toy, 12e6), (toy, 1e6)], TIMED, 3, limit=10e6)
    assert found == pytest.approx(24 / 16), "24 MB are more than twice the limit for the last"
    assert overhead([(toy, 1e6)], TIMED, 3, limit=10e6) is None


def test_a_budget_beyond_the_machine_is_refused(toy: ep.Potential, places: list[PretendedPlace]) -> None:
    check_memory(ep.Budget(faster=2.0), toy)
    check_memory(ep.Budget(memory=0.9 * GB, atoms=10), toy)
    with pytest.raises(
        TargetError, match=r"`memory` 1\.1 GB is more than the 1 GB that models may have on this machine"
    ):
        check_memory(ep.Budget(memory=1.1 * GB, atoms=10), toy)
    assert not places


def test_a_system_that_measures_no_process_is_refused(toy: ep.Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.evaluation.places.measures_each_peak", lambda: False)
    with pytest.raises(TargetError, match="on Linux, and this is another system"):
        check_memory(ep.Budget(memory=GB, atoms=10), toy)


@pytest.mark.slow
def test_a_real_process_takes_a_little_more_than_its_tensors(toy: ep.Potential) -> None:
    line = memory_line(toy, TIMED)
    assert line is not None
    peak = peak_of(toy, TIMED, 250, 100 * line.of(2_000))
    assert peak is not None
    assert line.of(2_000) <= peak < 1.5 * line.of(2_000)
