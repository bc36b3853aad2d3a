"""Results of commands, recognised by what their JSON holds.

A report is made from files alone, so that it can be made anywhere and later: no model is evaluated, and none of the
packages that models come from is needed. What does not hold what is expected is no result, and is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from equiprune.verification.measurement import Measurement

Number = float | None


class _Record(BaseModel):
    """Base of what JSON holds; keys that are not named here are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Identity(_Record):
    """Digest of the file of a model and its head: names and places change, these do not.

    Attributes:
        sha256: of the file; None in results of before it was recorded.
        head: of a model with several.
    """

    sha256: str | None = None
    head: str | None = None

    def same(self, other: Identity) -> bool:
        """True for the same head of the same file."""
        return self.sha256 is not None and (self.sha256, self.head) == (other.sha256, other.head)


class Errors(Identity):
    """Mean absolute (``mae``) and root mean squared errors (``rmse``) of a model, in milli-units of its quantities.

    ``parity`` has pairs of label and prediction by quantity, in eV/atom and eV/Angstrom, where they were asked for.
    """

    model: str
    structures: int
    missing: Mapping[str, int]
    energy_mae: Number
    energy_rmse: Number
    forces_mae: Number
    forces_rmse: Number
    stress_mae: Number = None
    stress_rmse: Number = None
    by_element: Mapping[str, Mapping[str, Number]] = {}
    parity: Mapping[str, Sequence[tuple[float, float]]] = {}


class Speed(Identity):
    """Time and memory of a model, as ``benchmark`` gives them.

    ``device_name`` is what the processor or card calls itself, empty or None where it was not recorded.
    """

    model: str
    engine: str = "equiprune"
    dtype: str
    backend: str
    batch: int
    threads: int
    atoms: int
    atoms_per_second: float
    seconds_min: float
    seconds_max: float
    peak_memory_bytes: int | None = None
    neighbour_list_seconds: Number = None
    device_name: str | None = None
    timestep: float = 1.0
    ns_per_day: Number = None

    @property
    def device(self) -> str:
        """Architecture and kind of device, with the name of the device where it is known."""
        return f"{self.backend} ({self.device_name})" if self.device_name else self.backend


class EstimateFound(_Record):
    """A number with its standard error."""

    value: float
    error: Number


class ScalingFound(_Record):
    """Time of a model at several sizes, with its overhead and its time per atom."""

    model: str
    engine: str
    overhead_ms: EstimateFound
    overhead_determined: bool
    ms_per_atom: EstimateFound
    per_atom_determined: bool
    half_overhead_atoms: Number
    exponent: EstimateFound
    largest_deviation: float
    timings: Annotated[Sequence[Speed], Field(min_length=1)]


class LargestBatchFound(_Record):
    """The largest batch of a model that fits into memory, and its speed there.

    ``refused`` is the smallest number of copies that did not fit, None where none was too large; ``memory`` the bytes
    that a batch could have, None for all of the device's.
    """

    model: str
    engine: str
    dtype: str
    backend: str
    threads: int
    copies: int
    refused: int | None
    halved: int
    memory: int | None
    atoms: int
    atoms_per_second: Number
    latency_seconds: Number
    peak_memory_bytes: int


class PrecisionFound(_Record):
    """Differences of a model in a lower precision from float64, and its speed over float64's."""

    model: str
    engine: str
    precision: str
    device: str
    structures: int
    energy_mae: float
    energy_max: float
    forces_mae: float
    forces_max: float
    speed: float


class Dynamics(Identity):
    """Molecular dynamics of one model."""

    model: str
    passed: bool
    atoms: int
    time_ps: float
    crashed: Mapping[str, Any] | None
    drift_meV_per_atom_per_ps: Mapping[str, Any] | None  # noqa: N815 (the key of the file)
    temperature_K: Mapping[str, Any] | None  # noqa: N815
    rdf: Sequence[Mapping[str, Any]] = ()
    ns_per_day: Number = None


class DynamicsResult(_Record):
    """Dynamics of several models from the same start."""

    models: Annotated[Sequence[Dynamics], Field(min_length=1)]


class QuantityFound(_Record):
    """Mean of a quantity, and errors by what it is compared with."""

    unit: str
    mean: Number
    structures: int
    against: Mapping[str, Mapping[str, Number]]


class PropertyFound(_Record):
    """One physical property of several models."""

    property: str
    structures: int
    compared: int
    models: Mapping[str, Mapping[str, QuantityFound]]


class LimitFound(_Record):
    """Largest mean absolute error of a quantity that is allowed, in its unit."""

    property: str
    quantity: str
    most: float


class PropertiesResult(_Record):
    """Physical properties of several models."""

    properties: Annotated[Sequence[PropertyFound], Field(min_length=1)]
    identities: Mapping[str, Identity] = {}
    limits: Sequence[LimitFound] = ()


class DiscoveryModel(_Record):
    """Metrics of a model by subset of the materials that all models finished."""

    model: str
    on_shared: Mapping[str, Mapping[str, Number]]
    rmsd: Number = None


class DiscoveryFound(_Record):
    """Metrics of Matbench Discovery of several models."""

    materials: int
    available: int
    stable_against: str
    shared: int
    identities: Mapping[str, Identity] = {}
    models: Annotated[Sequence[DiscoveryModel], Field(min_length=1)]


class CertificateFound(_Record):
    """Values of a certificate and their limits; groups of values are keys beside those named here."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    model: str
    passed: bool
    limits: Annotated[Mapping[str, float], Field(min_length=1)]
    notes: Sequence[str] = ()
    measured: Sequence[Measurement] = ()

    def value(self, name: str) -> float | None:
        """The value of a dotted name of `limits`; None for one that is not a number."""
        group, _, leaf = name.partition(".")
        found = (self.model_extra or {}).get(group)
        found = found.get(leaf) if leaf and isinstance(found, Mapping) else found
        return float(found) if isinstance(found, int | float) else None


class Cost(_Record):
    """Time per atom over the parent's, bytes per atom, share of the parameters."""

    time: float
    bytes_per_atom: Number = None
    parameters: float


class ErrorsOfForces(_Record):
    """Differences from labels: meV/atom and meV/Angstrom."""

    energy: Number = None
    forces: float


class Tried(_Record):
    """A candidate of a search, repaired."""

    number: int
    made: str
    shape: str
    predicted: Cost
    errors: ErrorsOfForces | None = None


class Finalist(_Record):
    """A candidate that was timed and trained briefly."""

    number: int
    measured: Cost
    errors: ErrorsOfForces | None = None


class SearchFound(_Record):
    """Candidates of a search, and the reason for the one chosen."""

    reason: str
    chosen: int
    tried: Sequence[Tried]
    finalists: Annotated[Sequence[Finalist], Field(min_length=1)]


class TrainingFound(_Record):
    """Errors of a model before (``start``) and after its training (``trained``)."""

    model: str
    curve: str
    accuracy: Annotated[Sequence[Errors], Field(min_length=1)]


class Evaluation(_Record):
    """Errors of several models against the same labels."""

    models: Annotated[Sequence[Errors], Field(min_length=1)]


class Benchmark(_Record):
    """Speed of several models on the same structure, and at several sizes where these were asked for."""

    models: Annotated[Sequence[Speed], Field(min_length=1, validation_alias=AliasChoices("models", "timings"))]
    scaling: Sequence[ScalingFound] = ()
    largest_batch: Sequence[LargestBatchFound] = ()
    precisions: Sequence[PrecisionFound] = ()

    @property
    def by_engine(self) -> Sequence[Sequence[Speed]]:
        """Timings of each engine."""
        engines = dict.fromkeys(timed.engine for timed in self.models)
        return [[timed for timed in self.models if timed.engine == engine] for engine in engines]

    def timing_of(self, model: str, engine: str) -> Speed | None:
        """The timing of a model with an engine, under whose conditions the rest was measured."""
        return next((timed for timed in self.models if (timed.model, timed.engine) == (model, engine)), None)


Found = (
    Evaluation
    | Benchmark
    | TrainingFound
    | DynamicsResult
    | PropertiesResult
    | DiscoveryFound
    | CertificateFound
    | SearchFound
)
"""Any result."""

_LISTS: Sequence[type[Found]] = (Evaluation, Benchmark, DynamicsResult)
"""Results that are a list of models."""
_OBJECTS: Sequence[type[Found]] = (
    Benchmark,
    TrainingFound,
    PropertiesResult,
    DiscoveryFound,
    DynamicsResult,
    CertificateFound,
    SearchFound,
)


def recognised(value: Any) -> Found | None:
    """The result that a JSON value is; None if it is none.

    >>> found = recognised([{"model": "a", "structures": 2, "missing": {}, "energy_mae": 1.5, "energy_rmse": 2.0,
    ...                      "forces_mae": None, "forces_rmse": None}])
    >>> type(found).__name__, found.models[0].energy_mae
    ('Evaluation', 1.5)
    >>> recognised({"anything": "else"}) is None
    True
    """
    given = {"models": value} if isinstance(value, list) else value
    for kind in _LISTS if isinstance(value, list) else _OBJECTS:
        try:
            return kind.model_validate(given)
        except ValidationError:
            continue
    return None
