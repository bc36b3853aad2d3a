"""What the core suite shares: the toy model in float64 and a few small structures."""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from ase import Atoms
from command_line import Ran, Run, contents
from elsewhere import Elsewhere
from hypothesis import settings

import equiprune as ep
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.cli import main
from equiprune.structures.probes import probe_structures

torch.set_num_threads(1)  # tensors are tiny: more threads only wait for each other

settings.register_profile("equiprune", deadline=None, max_examples=25, derandomize=bool(os.environ.get("CI")))
settings.load_profile("equiprune")


@pytest.fixture(scope="session", autouse=True)
def heard() -> Iterator[None]:
    """Ctrl-C and the end of a terminal are heard here and in processes that tests start, whoever started pytest."""
    # Ctrl-C is ignored in the background of a script, the end of a terminal under nohup, and both are inherited.
    heard = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
    here = {signal.Signals[name]: handler for name, handler in heard.items() if name in signal.Signals.__members__}
    before = {number: signal.signal(number, handler) for number, handler in here.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module", autouse=True)
def what_stays() -> None:
    """Objects from before a module's tests are no garbage: to look for some among them takes longer than most tests."""
    gc.freeze()


@pytest.fixture(scope="session")
def toy() -> ep.Potential:
    """A random model of H, C, O and Si with scalars and vectors."""
    return ep.load("toy", dtype=torch.float64)


@pytest.fixture(params=["elsewhere", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Another device than the CPU: one that every machine has, where a tensor in the wrong place shows, and a GPU."""
    if request.param == "elsewhere":
        with Elsewhere() as place:
            yield place
    elif not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    else:
        yield torch.device("cuda:0")


@pytest.fixture
def there(toy: ep.Potential, device: torch.device) -> ep.Potential:
    """The toy on the other device."""
    return toy.on(device)


@pytest.fixture(scope="session")
def toy_parent(toy: ep.Potential, tmp_path_factory: pytest.TempPathFactory) -> ep.Potential:
    """The toy model as a file, so that it has a sha256 and children know it."""
    path = tmp_path_factory.mktemp("models") / "parent"
    ep.save(toy.with_dtype(torch.float32), path)
    return ep.load(path)


@pytest.fixture(scope="session")
def single() -> ep.Potential:
    """The smallest toy: one element, scalars only, one interaction."""
    architecture = ToyArchitecture(elements=(14,), cutoff=3.5, hidden_irreps=("3x0e", "2x0e"), edge_lmax=0)
    adapter = ToyAdapter()
    return ep.Potential.create(adapter, adapter.random_checkpoint(architecture), torch.float64)


@pytest.fixture
def structures() -> list[Atoms]:
    """Four structures of 2 to 8 atoms of the toy's elements, periodic, without symmetry."""
    return list(probe_structures([1, 6, 8, 14]).values())


@pytest.fixture
def xyz(structures: list[Atoms], tmp_path: Path) -> Path:
    """The same structures as a file."""
    import ase.io

    path = tmp_path / "structures.xyz"
    ase.io.write(path, structures, format="extxyz")
    return path


@pytest.fixture(scope="session")
def cli() -> Iterator[Run]:
    """Run a command line in this process, whose memory stays as it is: other tests measure it."""

    def run(*words: object) -> Ran:
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            code = main([str(word) for word in words])
        return Ran(code, out.getvalue(), err.getvalue())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("equiprune.cli.commands.keep_freed_memory", lambda: False)
        yield run


@pytest.fixture
def refused(cli: Run, tmp_path: Path) -> Run:
    """Run a command line that must be refused: one message holds every one of the words, and no byte is changed."""

    def run(*command: object, says: str | tuple[str, ...]) -> Ran:
        before = contents(tmp_path)
        ran = cli(*command)
        assert ran.code == 2, ran
        assert ran.out == ""
        messages = [line for line in ran.err.splitlines() if line.startswith("equiprune: ")]
        assert len(messages) == 1, ran.err
        assert ran.err.endswith(messages[0] + "\n")
        for word in [says] if isinstance(says, str) else says:
            assert word in messages[0]
        assert contents(tmp_path) == before
        return ran

    return run


@pytest.fixture
def refused_in_one_line(refused: Run) -> Run:
    """The same with nothing else on stderr: neither equiprune nor a backend has said anything before."""

    def run(*command: object, says: str | tuple[str, ...]) -> Ran:
        ran = refused(*command, says=says)
        assert ran.err.count("\n") == 1, ran.err
        return ran

    return run
