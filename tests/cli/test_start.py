"""Start of the command line: at once, where it has nothing to compute."""

import subprocess
import sys

import pytest

from equiprune.cli import COMMANDS, app

SCRIPT = """
import sys
from equiprune.cli import main
code = main(sys.argv[1:])
print(code, *sorted({"torch", "numpy", "ase", "equiprune.commands"} & sys.modules.keys()), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("words", "says"), [(["--help"], "calibrate"), (["--version"], "0."), ([], "calibrate")])
def test_help_and_version_import_no_torch(words: list[str], says: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True)
    assert says in done.stdout
    assert done.stderr.splitlines()[-1] == "0"


def test_a_mistyped_command_imports_no_torch_either() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, "trian"], capture_output=True, text=True, check=True)
    message, codes = done.stderr.splitlines()
    assert message.startswith("equiprune: There is no command 'trian'. Did you mean 'train'? There are compress, info")
    assert codes == "2"


def test_the_list_of_commands_says_what_they_say() -> None:
    assert set(COMMANDS) == {name for name in app if not name.startswith("-")}
    for name, says in COMMANDS.items():
        assert (app[name].default_command.__doc__ or "").splitlines()[0] == says
