"""A vasprun.xml without its end: the steps that are complete are counted, and it is refused."""

import gzip
from pathlib import Path

import pytest

import equiprune as ep
from equiprune.errors import StructureError

ENERGY = '<energy><i name="e_fr_energy">-1.5</i><i name="e_0_energy">-1.25</i></energy>'
STEP = (
    '<calculation>\n<structure><crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>'
    '<varray name="positions"><v>0 0 {x}</v></varray></structure>\n<varray name="forces"><v>0 0 0.5</v></varray>\n'
    '<varray name="stress"><v>10 0 0</v><v>0 10 0</v><v>0 0 10</v></varray>\n{energy}'
    "<scstep>{energy}</scstep>\n</calculation>\n"
)
START = (
    '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n<kpoints><varray name="kpointlist"><v>0 0 0</v>'
    '</varray><varray name="weights"><v>1</v></varray></kpoints>\n<atominfo><array name="atoms"><set><rc><c>Si</c>'
    '<c>1</c></rc></set></array></atominfo>\n<structure name="initialpos"><crystal><varray name="basis"><v>4 0 0</v>'
    '<v>0 4 0</v><v>0 0 4</v></varray></crystal><varray name="positions"><v>0 0 0</v></varray></structure>\n'
)
WHOLE = START + "".join(STEP.format(x=0.1 * i, energy=ENERGY) for i in range(3)) + "</modeling>\n"


def test_a_whole_file_has_all_its_steps_with_ases_stress(tmp_path: Path) -> None:
    (tmp_path / "vasprun.xml").write_text(WHOLE)
    found = list(ep.read_structures(tmp_path / "vasprun.xml"))
    assert [round(atoms.positions[0, 2], 9) for atoms in found] == [0.0, 0.4, 0.8]
    assert found[0].get_stress()[0] == pytest.approx(-1 / 160.21766208, rel=1e-6)


@pytest.mark.parametrize(("lost", "steps"), [(1, 3), (30, 2), (500, 1)])
@pytest.mark.parametrize("compress", [False, True])
def test_a_file_without_its_end_is_refused_and_its_steps_are_counted(
    lost: int, steps: int, compress: bool, tmp_path: Path
) -> None:
    content = WHOLE.strip().encode()[:-lost]
    path = tmp_path / ("vasprun.xml.gz" if compress else "vasprun.xml")
    path.write_bytes(gzip.compress(content) if compress else content)
    for read in (ep.open_structures, lambda path: list(ep.read_structures(path))):
        with pytest.raises(StructureError, match=rf"ends before </modeling>.* {steps} ionic steps are complete"):
            read(path)
