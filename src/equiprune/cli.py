"""The command line. Each command is one call of the public API; nothing is computed here.

Results go to stdout (``--json``: one JSON document and nothing else), progress and notes to stderr. Exit codes: 0
success, 2 the user can mend it (one message, no traceback), 1 a check failed.
"""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from equiprune.errors import EquipruneError, OutputError, TargetError

if TYPE_CHECKING:
    from equiprune.potential import Potential
    from equiprune.pruning.importance import Criterion, ImportanceScores
    from equiprune.pruning.targets import Target

app = App(name="equiprune", help="Make equivariant interatomic potentials smaller and faster, with the numbers right.")

CriterionName = Literal["taylor", "activation", "magnitude", "random"]
Dtype = Literal["float32", "float64"]
Output = Annotated[Path, Parameter(name=["--output", "-o"])]
_stderr = Console(stderr=True)


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command.

    Attributes:
        json: print one JSON document on stdout instead of text.
        head: level of theory, for a multi-head model.
        trust: open a pickle that could run code; only for files whose origin you trust.
    """

    json: Annotated[bool, Parameter(negative="")] = False
    head: str | None = None
    trust: Annotated[bool, Parameter(negative="")] = False


@Parameter(name="*")
@dataclass(frozen=True)
class TargetFlags:
    """What to reach; flags combine.

    Attributes:
        irreps: hidden irreps for every space, e.g. 64x0e+32x1e+16x2e, or a comma-separated list, one per space.
        lmax: largest l of the hidden features.
        edge_lmax: largest l of the spherical harmonics of the edges.
        channels: at most this many channels of every hidden irrep.
        parameters: at most this fraction of the trainable parameters, e.g. 0.5.
        elements: exactly these elements, in this order, e.g. H,O. Exact for what is kept.
        heads: exactly these heads of a multi-head model, e.g. PBE.
        radial_width: hidden neurons of the radial network, e.g. 40,24.
        radial_basis: number of radial functions.
        round_to: make hidden multiplicities multiples of this.
        lossless: remove only what contributes exactly nothing, and prove it.
        plan: a plan written by an earlier prune (its JSON "plan").
    """

    irreps: str | None = None
    lmax: int | None = None
    edge_lmax: int | None = None
    channels: int | None = None
    parameters: float | None = None
    elements: str | None = None
    heads: str | None = None
    radial_width: str | None = None
    radial_basis: int | None = None
    round_to: int = 1
    lossless: Annotated[bool, Parameter(negative="")] = False
    plan: Path | None = None

    def targets(self) -> list[Target]:
        """The typed targets that these flags name; raises `TargetError` when there is none."""
        from equiprune.blocks import PruningPlan
        from equiprune.pruning import targets as t
        from equiprune.storage import read_json

        given: list[tuple[Any, Any]] = [
            (self.plan, lambda p: t.Exactly(PruningPlan.from_json(read_json(p, "pruning plan")))),
            (self.irreps, t.HiddenIrreps.parse),
            (self.lmax, t.Lmax),
            (self.edge_lmax, t.EdgeLmax),
            (self.channels, t.Channels),
            (self.elements, t.Elements.parse),
            (self.heads, lambda text: t.Heads(tuple(text.split(",")))),
            (self.radial_width, t.RadialWidth.parse),
            (self.radial_basis, t.RadialBasis),
            (self.parameters, t.Parameters),
            (self.lossless or None, lambda _: t.Lossless()),
        ]
        targets = [make(value) for value, make in given if value is not None]
        if not targets:
            raise TargetError("Say what to reach: --irreps, --lmax, --parameters, --elements, --lossless, ... (see --help).")
        if self.round_to < 1:
            raise TargetError(f"--round-to {self.round_to} is not possible: give 1 or more.")
        return targets


@app.command
def info(model: str, /, *, common: Common = Common()) -> int:
    """Show what a model is: architecture, spaces, parameters, elements, licence, dead blocks."""
    from equiprune.checkpoint import read_checkpoint
    from equiprune.summary import describe_model

    value = describe_model(*read_checkpoint(model, trust=common.trust))
    if common.json:
        _print_json(value)
        return 0
    spaces = value.pop("spaces")
    rows = [[key, _plain(item)] for key, item in value.items()]
    _print_table("", [["", model], *rows])
    _print_table("Feature spaces", [["name", "irreps", "role", "tying"], *([s[k] for k in ("name", "irreps", "role", "tying")] for s in spaces)])
    return 0


@app.command
def calibrate(
    model: str,
    data: Path,
    /,
    *,
    output: Output,
    criterion: CriterionName = "taylor",
    seed: int = 0,
    limit: int | None = None,
    batch_atoms: int = 128,
    dtype: Dtype = "float32",
    plot: Path | None = None,
    common: Common = Common(),
) -> int:
    """Score every block of every feature space on structures. Interrupted, the same command goes on.

    Args:
        data: structures; labels are not needed.
        output: scores, as JSON.
        criterion: how importance is measured.
        seed: of the random criterion.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
        dtype: precision of the model; sums are always float64.
        plot: also draw importance by l and interaction (.png or .svg).
    """
    from equiprune.pruning.calibration import Resume
    from equiprune.pruning.calibration import calibrate as run
    from equiprune.pruning.figure import plot_importance, table
    from equiprune.storage import check_writable, write_json

    for path in filter(None, (output, plot)):
        check_writable(path)
    potential = _load(model, dtype, common)
    resume = Resume(output.with_name(output.name + ".partial"))
    if resume.path.exists():
        _stderr.print(f"Going on from {resume.path}.", highlight=False)
    with _progress("calibrate", None) as step:
        scores = run(
            potential,
            data,
            _criterion(criterion, seed),
            limit=limit,
            batch_atoms=batch_atoms,
            resume=resume,
            progress=step,
        )
    write_json(output, scores.to_json())
    if plot:
        plot_importance(scores, plot)
    if common.json:
        _print_json({"scores": str(output), "structures": scores.structures, "provenance": dict(scores.provenance)})
    else:
        _print_table(f"Importance ({criterion}, {scores.structures} structures)", table(scores))
        print(f"Scores written to {output}")
    return 0


@app.command
def prune(
    model: str,
    /,
    *,
    output: Output,
    target: TargetFlags = TargetFlags(),
    scores: Path | None = None,
    data: Path | None = None,
    criterion: CriterionName | None = None,
    seed: int = 0,
    limit: int | None = None,
    common: Common = Common(),
) -> int:
    """Write the smaller model that the targets ask for. The suffix of the output chooses the format.

    Args:
        output: .pth for SevenNet, no suffix for equiprune's own directory.
        scores: importance scores from 'equiprune calibrate'.
        data: structures to calibrate on now, instead of scores.
        criterion: with --data taylor or activation; alone magnitude or random.
        seed: of the random criterion.
        limit: use only the first this many structures of the data.
    """
    from equiprune.checkpoint import save
    from equiprune.pruning.allocation import allocate
    from equiprune.pruning.slicing import prune as run
    from equiprune.storage import check_writable

    check_writable(output)
    targets = target.targets()
    parent = _load(model, "float32", common, any_head=True)
    importance = _scores(parent, scores, data, criterion, seed, limit)
    plan = allocate(parent, targets, importance, round_to=target.round_to)
    child = run(parent, plan, note={"targets": [repr(t) for t in targets]})
    proof = _prove_lossless(parent, child) if target.lossless else {}
    written = save(child, output)
    _report_pruning(parent, child, written, plan.to_json(), proof, common.json)
    return 0


@app.command
def certify(
    model: str,
    /,
    *,
    parent: str | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    nve_steps: int = 40,
    common: Common = Common(),
) -> int:
    """Check a model in float64: exactly its pruned parent, equivariant, conservative, smooth. Exit code 1 if not.

    Args:
        parent: the model it was pruned from.
        output: also write the certificate (.json or .md).
        nve_steps: length of the molecular-dynamics check, in steps of 0.5 fs.
    """
    from equiprune.certificate import CHECKS
    from equiprune.certificate import certify as run
    from equiprune.storage import check_writable, write_json, write_text

    if output is not None:
        if output.suffix not in (".json", ".md"):
            raise OutputError(f"A certificate is written as .json or .md, not '{output.suffix}'.")
        check_writable(output)
    child = _load(model, "float32", common, any_head=True)
    original = _load(parent, "float32", Common(head=None, trust=common.trust), any_head=True) if parent else None
    with _progress("certify", CHECKS) as step:
        certificate = run(child, original, nve_steps=nve_steps, progress=step)
    if output is not None:
        write = {".json": lambda: write_json(output, certificate.to_json()), ".md": lambda: write_text(output, certificate.to_markdown())}
        write[output.suffix]()
    if common.json:
        _print_json(certificate.to_json())
    else:
        print(certificate.to_markdown())
    return 0 if certificate.passed else 1


@app.command
def evaluate(
    models: list[str],
    /,
    *,
    data: Path,
    dtype: Dtype = "float32",
    limit: int | None = None,
    batch_atoms: int = 256,
    common: Common = Common(),
) -> int:
    """Errors of one or more models against labelled structures, side by side.

    Args:
        data: structures with energy, forces or stress labels.
        dtype: precision of the models.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
    """
    from itertools import islice

    from equiprune.evaluation.accuracy import evaluate as run
    from equiprune.evaluation.accuracy import table
    from equiprune.structures import read_structures

    structures = islice(read_structures(data), limit)
    potentials = {model: _load(model, dtype, common) for model in models}
    with _progress("evaluate", None) as step:
        accuracies = run(potentials, structures, batch_atoms=batch_atoms, progress=step)
    if common.json:
        _print_json([accuracy.to_json() for accuracy in accuracies])
        return 0
    first = accuracies[0]
    _print_table(f"{first.structures} structures of {data}", table(accuracies))
    for quantity, count in first.missing.items():
        if count:
            print(f"{count} of {first.structures} structures have no {quantity} label and were left out of that column.")
    return 0


@app.command
def benchmark(
    models: list[str],
    /,
    *,
    data: Path | None = None,
    dtype: Dtype = "float32",
    repeats: int = 5,
    threads: int | None = None,
    device: str = "cpu",
    common: Common = Common(),
) -> int:
    """Time models side by side, taking turns on the same structure.

    Args:
        data: the first structure is used; without it a rock-salt cell of 64 atoms.
        dtype: precision of the models.
        repeats: timed evaluations per model, after two for warming up.
        threads: of torch; its own choice unless given.
        device: cpu or cuda.
    """
    import torch

    from equiprune.evaluation.benchmark import benchmark as run
    from equiprune.evaluation.benchmark import table
    from equiprune.probes import probe_structures
    from equiprune.structures import read_structures

    if threads is not None:
        torch.set_num_threads(threads)
    if repeats < 1:
        raise TargetError(f"--repeats {repeats} is not possible: give 1 or more.")
    potentials = {model: _load(model, dtype, common, device=device) for model in models}
    shared = frozenset.intersection(*(p.elements for p in potentials.values()))
    atoms = next(iter(read_structures(data))) if data else probe_structures(shared)["ionic"].repeat(2)
    with _progress("benchmark", (repeats + 2) * len(models)) as step:
        timings = run(potentials, atoms, repeats=repeats, progress=step)
    if common.json:
        _print_json([timing.to_json() for timing in timings])
    else:
        _print_table(f"Energy, forces and stress of {atoms.get_chemical_formula()} on {device}", table(timings))
    return 0


@app.command
def export(model: str, /, *, output: Output, common: Common = Common()) -> int:
    """Write a model in another format, chosen by the suffix, and compare it with the stock tool before saying done.

    Args:
        output: .pth for SevenNet, no suffix for equiprune's own directory.
    """
    from equiprune.checkpoint import save

    written = save(_load(model, "float32", common, any_head=True), output)
    _print_json({"written": [str(p) for p in written]}) if common.json else print(_written(written))
    return 0


@app.command
def demo(output: Path = Path("demo_output"), /) -> int:
    """The main job on a real model that comes with pip install: calibrate, prune, certify, evaluate, time, save.

    Args:
        output: folder for what the demo writes; must not exist yet.
    """
    from equiprune.demo import run_demo

    run_demo(output)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code instead of raising for anything a user can mend."""
    try:
        return app(arguments, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except EquipruneError as error:
        return _complain(str(error))
    except CycloptsError as error:
        return _complain(f"{str(error).strip()} See 'equiprune --help'.")
    except KeyboardInterrupt:
        return _complain("Interrupted. What was finished of a calibration is kept: repeat the command to go on.")
    except OSError as error:
        return _complain(f"{error.strerror or error} ({error.filename or 'no file named'}).")


def _complain(message: str) -> int:
    print(f"equiprune: {message}", file=sys.stderr)
    return 2


def _load(
    model: str, dtype: Dtype, common: Common, *, any_head: bool = False, device: str = "cpu"
) -> Potential:
    import torch

    from equiprune.checkpoint import read_checkpoint
    from equiprune.potential import Potential

    if device != "cpu" and not torch.cuda.is_available():
        raise TargetError(f"--device {device} is not available here: torch sees no GPU. Use --device cpu.")
    adapter, checkpoint = read_checkpoint(model, trust=common.trust)
    heads = checkpoint.architecture.heads
    head = common.head or (heads[0] if any_head and heads else None)
    return Potential.create(adapter, checkpoint, getattr(torch, dtype), head, device)


def _criterion(name: CriterionName, seed: int) -> Criterion:
    from equiprune.pruning.importance import Activation, Magnitude, Random, Taylor

    return {"taylor": Taylor(), "activation": Activation(), "magnitude": Magnitude(), "random": Random(seed)}[name]


def _scores(
    potential: Potential,
    scores: Path | None,
    data: Path | None,
    criterion: CriterionName | None,
    seed: int,
    limit: int | None,
) -> ImportanceScores | None:
    """Scores from a file, from structures, from a criterion that needs neither, or none."""
    from equiprune.pruning.calibration import calibrate as run
    from equiprune.pruning.importance import ImportanceScores, data_free_scores
    from equiprune.storage import read_json

    if scores is not None:
        if data is not None or criterion is not None:
            raise TargetError("--scores already says everything; leave out --data and --criterion.")
        return ImportanceScores.from_json(read_json(scores, "scores file"))
    if data is not None:
        with _progress("calibrate", None) as step:
            return run(potential, data, _criterion(criterion or "taylor", seed), limit=limit, progress=step)
    if criterion is None:
        return None
    chosen = _criterion(criterion, seed)
    if criterion in ("taylor", "activation"):
        raise TargetError(f"--criterion {criterion} looks at structures: give --data.")
    return data_free_scores(potential, chosen)  # type: ignore[arg-type]


def _prove_lossless(parent: Potential, child: Potential) -> Mapping[str, float]:
    """Differences from the unpruned model in float64; refuses to call lossless what is not."""
    import torch

    from equiprune.certificate import compare
    from equiprune.probes import probe_structures
    from equiprune.pruning.slicing import prune as run
    from equiprune.blocks import PruningPlan

    exact = run(parent.to(torch.float64), PruningPlan.from_json(child.checkpoint.history[-1]["plan"]))
    structures = list(probe_structures(child.elements).values())
    proof = compare(parent.to(torch.float64), exact, structures, "lossless")
    if not all(value <= 1e-10 for value in proof.values()):
        raise TargetError(
            f"These targets together are not lossless: against the unpruned model {proof}. Leave out --lossless, or "
            "leave out the targets that remove more."
        )
    return proof


def _report_pruning(
    parent: Potential,
    child: Potential,
    written: Sequence[Path],
    plan: Mapping[str, Any],
    proof: Mapping[str, float],
    as_json: bool,
) -> None:
    from equiprune.summary import compare_models

    value = compare_models(parent, child)
    if as_json:
        _print_json({**value, **({"lossless": proof} if proof else {}), "written": [str(p) for p in written], "plan": plan})
        return
    rows = [["", "parent", "child"], *([key, _plain(a), _plain(b)] for key, (a, b) in value.items())]
    _print_table("Pruned", rows)
    if proof:
        print("Lossless, proven in float64 on four structures: " + ", ".join(f"{k} {v:.1g}" for k, v in proof.items()))
    else:
        print("The child starts from its parent's weights and needs retraining before use.")
    print(_written(written))


def _written(paths: Sequence[Path]) -> str:
    return "Written, read back and compared: " + ", ".join(map(str, paths))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _print_json(value: Any) -> None:
    print(json_module.dumps(value, indent=1))


def _print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    table = Table(*rows[0], title=title or None, title_justify="left")
    for row in rows[1:]:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@contextmanager
def _progress(label: str, total: int | None) -> Iterator[Any]:
    """A bar on a terminal, a plain line now and then elsewhere."""
    if _stderr.is_terminal:
        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=_stderr, transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done = 0

    def step(count: int) -> None:
        nonlocal done
        if done // 50 != (done + count) // 50:
            print(f"{label}: {done + count}{f' of {total}' if total else ''}", file=sys.stderr)
        done += count

    yield step
