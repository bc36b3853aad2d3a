"""Environments: the core needs no backend; each architecture has one of its own, because their e3nn pins differ.

pip and virtualenv on purpose: with the bound on torch they take a CPU build that is at hand instead of gigabytes of
CUDA packages. ``nox --parallel 2`` installs one environment while another one's tests run.
"""

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.allow_parallel = True
nox.options.sessions = ["lint", "types", "core", "slow", "sevennet", "mace", "mace_tools", "escn", "escn_tools"]

# The structures of the tests are small: several threads in one process would only wait for each other.
_TWO_WORKERS = ("-n", "2", "--dist", "worksteal")
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_ELSEWHERE = [f"--ignore=tests/{folder}" for folder in ("adapters/sevennet", "adapters/mace", "adapters/escn", "docs")]


def _install(session: nox.Session, *packages: str) -> None:
    """Install without compiling: Python compiles what is imported, a tenth of what pip would."""
    session.install("--no-compile", *packages)


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, and the direction of imports."""
    _install(session, "ruff>=0.12", "import-linter>=2.3")
    _install(session, "--no-deps", "-e", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Static types."""
    _install(session, "mypy>=1.16", "-e", ".")
    session.run("mypy")


@nox.session
def core(session: nox.Session) -> None:
    """Every law, on the toy model; no backend installed."""
    _install(session, "-e", ".[test]")
    session.run("pytest", *_TWO_WORKERS, *_ELSEWHERE, "-m", "not slow", *session.posargs, env=_ONE_THREAD)


@nox.session
def slow(session: nox.Session) -> None:
    """What takes longer on the toy model: pipelines, whole runs of training, processes that are killed."""
    _install(session, "-e", ".[test]")
    session.run("pytest", *_TWO_WORKERS, *_ELSEWHERE, "-m", "slow", *session.posargs, env=_ONE_THREAD)


@nox.session
def sevennet(session: nox.Session) -> None:
    """SevenNet's own checkpoints, its stock tools, and the code in the docs."""
    _install(session, "-e", ".[test,sevennet]")
    session.run("pytest", *_TWO_WORKERS, "tests/adapters/sevennet", "tests/docs", *session.posargs, env=_ONE_THREAD)


@nox.session
def mace(session: nox.Session) -> None:
    """MACE's laws on models of every kind, and MACE-MP-0 small where it is at hand."""
    _install(session, "-e", ".[test,mace]")
    tools = "--ignore=tests/adapters/mace/test_stock_tools.py"  # with their packages, in the next session
    session.run("pytest", *_TWO_WORKERS, "tests/adapters/mace", tools, *session.posargs, env=_ONE_THREAD)


@nox.session
def mace_tools(session: nox.Session) -> None:
    """Pruned MACE models in MACE's own tools, cuEquivariance and torch-sim."""
    more = ("cuequivariance>=0.13,<0.14", "cuequivariance-torch>=0.13,<0.14", "torch-sim-atomistic>=0.3,<0.4")
    _install(session, "-e", ".[test,mace]", *more)
    session.run("pytest", *_TWO_WORKERS, "tests/adapters/mace/test_stock_tools.py", *session.posargs, env=_ONE_THREAD)


@nox.session
def escn(session: nox.Session) -> None:
    """ESCN's laws on random models, with upstream's classes alone: docs/escn.md says why without dependencies."""
    _install(session, "-e", ".[test,escn]")
    _install(session, "--no-deps", "fairchem-core>=1.10,<2")
    tools = "--ignore=tests/adapters/escn/test_stock_tools.py"  # with what fairchem imports, in the next session
    session.run("pytest", *_TWO_WORKERS, "tests/adapters/escn", tools, *session.posargs, env=_ONE_THREAD)


@nox.session
def escn_tools(session: nox.Session) -> None:
    """Written eSCN models in fairchem's own calculator, with most of what it imports."""
    imported = ("torch_geometric", "wandb", "submitit", "numba", "huggingface_hub", "scipy<1.17")
    _install(session, "-e", ".[test,escn]", *imported)
    _install(session, "--no-deps", "fairchem-core>=1.10,<2")
    session.run("pytest", "tests/adapters/escn/test_stock_tools.py", *session.posargs, env=_ONE_THREAD)
