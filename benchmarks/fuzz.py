"""Broken inputs for every reader: each is read or refused by one message, soon, in little memory, and writes nothing.

Every input is a small valid one with a few changes (`fuzzing.mutations`), made from the seed, the name of its reader
and its number. Readers run in this process's children, with torch imported once. Inputs that show a defect are kept.
Files of an architecture are fuzzed where its package is installed, and of the others it is said.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from fuzzing import trials as t
from fuzzing.readers import READERS, Reader
from fuzzing.seeds import FRAMES, extxyz


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--inputs", type=int, default=300, help="of each reader; fewer of those that train or label")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="", help="readers whose name has these words in it, apart by commas")
    options.add_argument("--output", type=Path, help="folder for inputs that show a defect; made where needed")
    options.add_argument("--json", type=Path, help="file for the numbers of the table")
    given = options.parse_args()
    chosen = [r for r in READERS if any(word in r.name for word in given.only.split(","))]
    rows = [fuzzed(reader, given.inputs, given.seed, given.output) for reader in chosen]
    table([row for row in rows if row])
    if given.json:
        given.json.write_text(json.dumps([row for row in rows if row], indent=1))
    sys.exit(any(row and row["defects"] for row in rows))


def fuzzed(reader: Reader, inputs: int, seed: int, output: Path | None) -> dict | None:
    """A row of the table; None where no seed can be made."""
    with tempfile.TemporaryDirectory() as folder:
        box = Path(folder) / "box"
        box.mkdir()
        extxyz(box / "data.extxyz", FRAMES)
        try:
            files = t.seed_of(reader, box)
            t.read_here(reader, box)
        except Exception as error:  # mostly a package that is not here
            print(f"{reader.name}: skipped: {' '.join(str(error).split())[:150]}", file=sys.stderr, flush=True)
            return None
        outcomes: Counter[str] = Counter()
        defects: Counter[str] = Counter()
        spent: list[float] = []
        for trial in t.trials(reader, files, box, seed, max(2, round(inputs * reader.share))):
            outcomes[trial.outcome] += 1
            spent.append(trial.seconds)
            if trial.outcome == "defect":
                kind = trial.what.partition(": ")[0]
                defects[kind] += 1
                if defects[kind] == 1:
                    print(f"{reader.name} {trial.index}: {trial.what}", file=sys.stderr, flush=True)
                if output and defects[kind] <= 3:
                    kept = output / reader.name.replace(" ", "_").replace(":", "") / str(trial.index)
                    t.write(t.input_of(reader, files, seed, trial.index), kept)
                    (kept / "defect.txt").write_text(trial.what + "\n")
    return {
        "reader": reader.name,
        "inputs": sum(outcomes.values()),
        "seconds": round(sum(spent), 1),
        "longest": max(spent),
        "read": outcomes["read"],
        "refused": outcomes["refused"],
        "defects": outcomes["defect"],
        "kinds": dict(defects),
    }


def table(rows: list[dict]) -> None:
    """Print one row per reader, and the sums."""
    total = {key: sum(row[key] for row in rows) for key in ("inputs", "seconds", "read", "refused", "defects")}
    print("| reader | inputs | CPU s | longest, s | read | refused | defects |")
    print("|---|---|---|---|---|---|---|")
    for row in [*rows, {"reader": "together", "longest": max((r["longest"] for r in rows), default=0.0)} | total]:
        numbers = f"{row['inputs']:,} | {row['seconds']:.0f} | {row['longest']:.2f} | {row['read']:,}"
        print(f"| {row['reader']} | {numbers} | {row['refused']:,} | {row['defects']} |")


if __name__ == "__main__":
    main()
