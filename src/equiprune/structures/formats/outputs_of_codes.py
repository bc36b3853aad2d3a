"""Text outputs of codes, before ASE reads them: refused where ASE has no reader, or would take another number.

What ASE makes of a file without its end differs. Of an OUTCAR it takes complete ionic steps alone, and FHI-aims it
refuses itself; of pw.x it takes what there is of the last step: an energy without forces, or the first digits of one.
Of several energies of a step it takes the first of pw.x and the last of FHI-aims, whichever those are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO

from equiprune.structures.formats.by_name import ase_format

_HEAD = 50_000
"""Bytes in which a code says what it is, as many as ASE looks at."""
_CP2K = re.compile(rb"^ *CP2K\| ", re.MULTILINE)
_ENERGIES_OF_VASP = b"FREE ENERGIE OF THE ION-ELECTRON SYSTEM"
_ENERGIES_BELOW = 4
"""Lines from that one to the last that ASE reads of an ionic step."""
_BY_HAND = "write the structures with the energies that you mean as extended XYZ"


def check_output(path: Path) -> None:
    """Raise `ValueError` for an output of which ASE reads nothing, or takes what there is and says nothing."""
    check_cp2k(path)
    checks = {"vasp-xml": check_vasprun, "vasp-out": check_outcar, "espresso-out": check_pw, "aims-output": check_aims}
    if check := checks.get(ase_format(path)):
        check(path)


def check_cp2k(path: Path) -> None:
    """Raise `ValueError` for CP2K's output and its .dcd, whatever they are called."""
    with _opened(path) as stream:
        is_output = _CP2K.search(stream.read(_HEAD)) is not None
    if is_output or ase_format(path) == "cp2k-dcd":
        what = (
            "the output of CP2K, which ASE does not read; dpdata does"
            if is_output
            else "a trajectory of CP2K without elements; dpdata reads its output"
        )
        raise ValueError(
            f"it is {what}: LabeledSystem('cp2k.out', fmt='cp2k/output').to('deepmd/npy', 'folder'), of "
            "dynamics LabeledSystem('run', fmt='cp2k/aimd_output'). Then give that folder"
        )


def check_vasprun(path: Path) -> None:
    """Raise `ValueError` for a vasprun.xml without its end, from which ASE takes what there is and says nothing."""
    steps, last = 0, b""
    with _opened(path) as stream:
        for line in stream:
            steps += line.count(b"</calculation>")
            last = line.strip() or last
    if not last.endswith(b"</modeling>"):
        raise ValueError(
            f"it ends before </modeling>: VASP was interrupted, still runs, or the file is cut off. {steps} ionic "
            "steps are complete; to use them, delete what follows the last </calculation> and write </modeling> there"
        )


def check_outcar(path: Path) -> None:
    """Raise `ValueError` for an OUTCAR that ends within the energy of a step; ASE leaves out other half steps."""
    steps, left, line = 0, -1, b""
    with _opened(path) as stream:
        for line in stream:
            left = _ENERGIES_BELOW if _ENERGIES_OF_VASP in line else left - 1
            steps += left == 0 and line.endswith(b"\n")
    within = left == 0 and not line.endswith(b"\n")
    if within or not steps:
        raise ValueError(
            f"it ends within {'the energy of its last' if within else 'its first'} ionic step: VASP was interrupted, "
            "still runs, or the file is cut off" + ("; to use the steps before, delete its last line" if steps else "")
        )


def check_pw(path: Path) -> None:
    """Raise `ValueError` for an output of pw.x that ends before JOB DONE, or has several energies of a step."""
    steps, has_energy, runs = 0, False, False
    with _opened(path) as stream:
        for line in stream:
            starts = b"Program PWSCF" in line
            if starts and runs:
                break
            if starts or b"ATOMIC_POSITIONS" in line:
                steps, has_energy = steps + has_energy, False
            runs = (runs or starts) and b"JOB DONE" not in line
            if line.startswith(b"!"):
                if has_energy:
                    raise ValueError(
                        "an ionic step has several total energies, as with a hybrid functional (whose own is in the "
                        f"line with !!), and ASE takes the first; {_BY_HAND}"
                    )
                has_energy = True
    if runs:
        raise ValueError(
            "it ends before JOB DONE: pw.x was interrupted, still runs, or the file is cut off. "
            f"{steps} ionic steps are complete; to use them, delete all from the last ATOMIC_POSITIONS of that run on "
            "and write JOB DONE there"
        )


def check_aims(path: Path) -> None:
    """Raise `ValueError` for an output of FHI-aims without its end, or with energies in other units last."""
    ended = final = False
    with _opened(path) as stream:
        for line in stream:
            ended = ended or line.strip() == b"Have a nice day."
            final = (final or b"Energy and forces in a compact form" in line) and b"Begin self-consistency" not in line
            if final and b"| Electronic free energy" in line and (b" Ha " in line or b"per atom" in line):
                raise ValueError(
                    "after the energy of a step stands another one in Ha or per atom, which ASE would take for it; "
                    f"{_BY_HAND}"
                )
    if not ended:
        raise ValueError(
            "it ends before 'Have a nice day.': FHI-aims was interrupted, still runs, or the file is cut off, and ASE "
            "reads only runs that came to their end"
        )


def _opened(path: Path) -> IO[bytes]:
    from ase.io.formats import open_with_compression  # slow to import

    return open_with_compression(str(path), "rb")
