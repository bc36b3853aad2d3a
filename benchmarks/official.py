"""Models beside their parent and the official small model, on labels of DFT: errors, and whether a difference is real.

``python benchmarks/official.py MODEL ...``; ``--parent mace-mp-small`` for children of another parent. Sets: mlearn's
Cu, Ni, Li and Si and Li-Ge-P-S (dynamics and strained crystals), and every fifth frame of the MPtrj sample, which no
training of ours sees (SevenNet's own models and MACE-MP-0 were trained on them). Intervals are of 95 %, from drawing
frames again; a difference is taken within each draw.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from reference_data import reference

from equiprune import Potential, load

OFFICIALS = {"7net-l3i5": "7net-0", "nequix-oam-1": "7net-0", "mace-mp-small": "mace-mp-small"}
"""Parents, and the official small model that their children are compared with: of the same makers where they have one.

MACE-MP-0 small is the official small model itself."""

PARENT = "7net-l3i5"
OFFICIAL = OFFICIALS[PARENT]

SETS = {
    "Cu": "mlearn/Cu_test.extxyz.xz",
    "Ni": "mlearn/Ni_test.extxyz.xz",
    "Li": "mlearn/Li_test.extxyz.xz",
    "Si": "mlearn/Si_test.extxyz.xz",
    "Li-Ge-P-S": "lgps_sse_pbe/test_50at.extxyz.xz",
    "MPtrj": "mptrj_sample/mptrj-random-1k.extxyz.xz",
}
UNITS = {"energy": "meV/atom", "forces": "meV/Angstrom"}
RESAMPLES = 2000

Json = dict[str, Any]


@dataclass(frozen=True)
class FrameErrors:
    """Absolute errors of one model, frame by frame.

    Attributes:
        energy: (frames,) meV/atom.
        forces: (frames,) meV/Angstrom, summed over the components of a frame.
        components: (frames,) how many those are.
    """

    energy: np.ndarray
    forces: np.ndarray
    components: np.ndarray

    def mean(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """Mean absolute errors (draws,) of frames that were drawn (draws, frames)."""
        forces = self.forces[draws].sum(1) / self.components[draws].sum(1)
        return {"energy": self.energy[draws].mean(1), "forces": forces}


def frame_errors(potential: Potential, structures: Sequence[Atoms]) -> FrameErrors:
    """Errors of a model against the labels of structures."""
    energy, forces = [], []
    for atoms, predicted in zip(structures, potential.predict(structures), strict=True):
        energy.append(abs(predicted.energy.item() - atoms.get_potential_energy()) / len(atoms))
        forces.append(np.abs(predicted.forces.numpy() - atoms.get_forces()).sum())
    return FrameErrors(1e3 * np.array(energy), 1e3 * np.array(forces), np.array([3 * len(a) for a in structures]))


def compared(errors: Mapping[str, FrameErrors], official: str) -> Json:
    """Errors of models on one set, and those of every model less those of the official one: value, low, high.

    The first model is the parent of the others.
    """
    parent = next(iter(errors))
    count = len(errors[official].energy)
    once = np.arange(count)[None]
    drawn = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    values = {name: {q: value[0] for q, value in e.mean(once).items()} for name, e in errors.items()}
    spread = {name: e.mean(drawn) for name, e in errors.items()}
    return {
        "frames": count,
        "errors": {m: {q: _interval(values[m][q], spread[m][q]) for q in UNITS} for m in errors},
        "less_official": {
            m: {q: _interval(values[m][q] - values[official][q], spread[m][q] - spread[official][q]) for q in UNITS}
            for m in errors
            if m not in (parent, official)
        },
    }


def _interval(value: float, draws: np.ndarray) -> list[float]:
    return [round(float(number), 2) for number in (value, *np.percentile(draws, [2.5, 97.5]))]


def frames_of(name: str, most: int, mptrj_atoms: int, fewest: int = 1) -> list[Atoms]:
    """Frames of a set, evenly spaced; MPtrj's of ``fewest`` to ``mptrj_atoms`` atoms."""
    structures = reference(SETS[name])
    if name == "MPtrj":
        structures = [atoms for atoms in structures[::5] if fewest <= len(atoms) <= mptrj_atoms]
    return structures[:: max(1, -(-len(structures) // most))]


def accuracy(
    models: Mapping[str, Potential], official: str, sets: Iterable[str], most: int, mptrj_atoms: int, fewest: int = 1
) -> dict[str, Json]:
    """`compared`, for every set; the first model is the parent."""
    found = {}
    for name in sets:
        structures = frames_of(name, most, mptrj_atoms, fewest)
        print(f"{name}: {len(structures)} frames", file=sys.stderr, flush=True)
        errors = {model: frame_errors(potential, structures) for model, potential in models.items()}
        found[name] = compared(errors, official)
    return found


def error_table(found: Mapping[str, Json]) -> str:
    """Markdown: a row for each set, a column for each quantity and model."""
    models = list(next(iter(found.values()))["errors"])
    heads = [f"{quantity}: {model}" if model == models[0] else model for quantity in UNITS for model in models]
    rows = [
        [f"{name} ({of['frames']})", *(shown(of["errors"][model][q]) for q in UNITS for model in models)]
        for name, of in found.items()
    ]
    return markdown(["set (frames)", *heads], rows)


def difference_table(found: Mapping[str, Json], official: str) -> str:
    """Markdown: errors less those of the official model; bold where the interval leaves zero out."""
    models = list(next(iter(found.values()))["less_official"])
    heads = [f"{model}: {quantity}" for model in models for quantity in UNITS]
    rows = [
        [name, *(shown(of["less_official"][model][q], signed=True) for model in models for q in UNITS)]
        for name, of in found.items()
    ]
    return markdown([f"error less that of {official}", *heads], rows)


def wins(found: Mapping[str, Json], model: str, official: str) -> str:
    """A sentence: on which sets a model is better or worse than the official one, and where that is beyond doubt."""
    return f"{model} against {official}: " + "; ".join(_wins(found, model, quantity) for quantity in UNITS) + "."


def _wins(found: Mapping[str, Json], model: str, quantity: str) -> str:
    differences = {name: of["less_official"][model][quantity] for name, of in found.items()}
    smaller = [name for name, (value, _, _) in differences.items() if value < 0]
    surely = [name for name, (_, _, high) in differences.items() if high < 0]
    worse = [name for name, (_, low, _) in differences.items() if low > 0]
    return (
        f"{quantity} smaller on {len(smaller)} of {len(found)} sets (beyond the interval on "
        f"{', '.join(surely) or 'none'}), larger beyond the interval on {', '.join(worse) or 'none'}"
    )


def shown(interval: Sequence[float], *, signed: bool = False) -> str:
    """A value and its interval; where a sign matters, bold if the interval leaves zero out."""
    value, low, high = interval
    if not signed:
        return f"{value:.1f} ({low:.1f}..{high:.1f})"
    bold = "**" if low > 0 or high < 0 else ""
    return f"{bold}{value:+.1f}{bold} ({low:+.1f}..{high:+.1f})"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The choice of frames."""
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--frames", type=int, default=60, help="at most, of each set, evenly spaced")
    parser.add_argument("--mptrj-atoms", type=int, default=60, help="largest MPtrj frame")


def main() -> None:
    """Print errors, differences and who wins where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="names or paths of models")
    parser.add_argument("--mptrj-fewest-atoms", type=int, default=1, help="smallest MPtrj frame")
    parser.add_argument("--parent", default=PARENT, choices=OFFICIALS)
    add_arguments(parser)
    chosen = parser.parse_args()
    official = OFFICIALS[chosen.parent]
    models = {name: load(name) for name in dict.fromkeys([chosen.parent, official, *chosen.models])}
    found = accuracy(models, official, chosen.sets, chosen.frames, chosen.mptrj_atoms, chosen.mptrj_fewest_atoms)
    print(f"Energy in {UNITS['energy']}, forces in {UNITS['forces']}.\n\n{error_table(found)}\n")
    said = (wins(found, model, official) for model in chosen.models)
    print(difference_table(found, official), *said, sep="\n\n")


if __name__ == "__main__":
    main()
