"""The convolution is e3nn's tensor product summed over neighbours, with its derivatives of every order."""

from collections.abc import Callable, Sequence

import pytest
import torch
from ase import Atoms
from e3nn.o3 import Irrep, Irreps, TensorProduct
from exports import ODD
from hypothesis import given, settings
from hypothesis import strategies as st
from learnt_by_weights import taught
from plain_code import plain
from random_models import KINDS, architecture, random_checkpoint
from torch import Tensor, nn

import equiprune as ep
from equiprune.adapters.e3nn import channelwise
from equiprune.adapters.e3nn.channelwise import ChannelwiseProduct
from equiprune.adapters.e3nn.convolution import convolution
from equiprune.adapters.e3nn.messages import Operands
from equiprune.adapters.e3nn.neighbourhoods import Neighbourhoods
from equiprune.adapters.precision import default_dtype
from equiprune.adapters.sevennet import SevenNetAdapter
from equiprune.adapters.sevennet.convolution import QuickerConvolution

Function = Callable[[Tensor, Tensor, Tensor], Tensor]

FEATURES = [
    "3x0e+2x1e+1x2e+2x3e",
    "1x0e+5x1o+2x1e+3x0o",
    "2x2e",
    "4x0e",
    "2x0e+3x1e+1x0e",  # the same irrep twice
]
HARMONICS = ["1x0e", "1x0e+1x1o+1x2e+1x3o", "1x0e+1x1e+1x2e"]


def product(features: str, harmonics: str, kept: Sequence[int] = ()) -> TensorProduct:
    """A tensor product built as SevenNet does (sevenn/nn/convolution.py), or some of its paths."""
    x, y = Irreps(features), Irreps(harmonics)
    found = [
        (mul, ir, i, j)
        for i, (mul, first) in enumerate(x)
        for j, (_, of) in enumerate(y)
        for ir in first * of
        if ir.l < 4
    ]
    found = [path for number, path in enumerate(found) if number in kept or not kept]
    out, places, _ = Irreps([(mul, ir) for mul, ir, _, _ in found]).sort()
    paths = sorted(((i, j, places[k], "uvu", True) for k, (_, _, i, j) in enumerate(found)), key=lambda path: path[2])
    with plain(), default_dtype(torch.float64):  # of its constants
        return TensorProduct(x, y, out, paths, shared_weights=False, internal_weights=False)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even small graphs take several batches, some of which have empty places."""
    monkeypatch.setattr(channelwise, "_NUMBERS", 20)


def edges(atoms: int, number: int, generator: torch.Generator) -> Tensor:
    """Random edges in any order; some atoms may have none, some meet twice, some meet themselves."""
    return torch.randint(atoms, (2, number), generator=generator)


def of_both(tensor_product: TensorProduct, found: Tensor, atoms: int) -> tuple[Function, Function]:
    """The convolution by e3nn and ours."""
    receivers, senders = found
    data = ChannelwiseProduct.of(tensor_product)
    assert data is not None
    near = Neighbourhoods.of(receivers, senders, atoms, 6)

    def theirs(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        messages = tensor_product(x[senders], y, w)
        return torch.zeros(atoms, messages.shape[1], dtype=x.dtype).index_add(0, receivers, messages)

    return theirs, lambda x, y, w: convolution(Operands(x, y, w), data, near)


def derivatives(function: Function, given: Sequence[Tensor], orders: int) -> list[Tensor]:
    """The value and gradients of each order, each by all that it depends on, along fixed random directions."""
    generator = torch.Generator().manual_seed(1)
    leaves = [x.clone().requires_grad_() for x in given]
    last, found = [function(*leaves)], []
    for _ in range(orders):
        along = [torch.randn(x.shape, generator=generator, dtype=x.dtype).requires_grad_() for x in last]
        found += last
        value = sum(((x * way).sum() for x, way in zip(last, along, strict=True)), torch.zeros(()))
        leaves += along
        last = list(torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True, allow_unused=True))
    return [x.detach() for x in found + last]


def random(tensor_product: TensorProduct, atoms: int, number: int, generator: torch.Generator) -> list[Tensor]:
    shapes = [(atoms, tensor_product.irreps_in1.dim), (number, tensor_product.irreps_in2.dim)]
    shapes.append((number, tensor_product.weight_numel))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def assert_the_same(tensor_product: TensorProduct, atoms: int, number: int, seed: int, orders: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    functions = of_both(tensor_product, edges(atoms, number, generator), atoms)
    given = random(tensor_product, atoms, number, generator)
    expected, found = (derivatives(function, given, orders) for function in functions)
    assert len(expected) == len(found)
    for theirs, ours in zip(expected, found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12 * float(theirs.norm() + 1))


@pytest.mark.parametrize("harmonics", HARMONICS)
@pytest.mark.parametrize("features", FEATURES)
def test_values_and_derivatives_are_those_of_e3nn(features: str, harmonics: str) -> None:
    assert_the_same(product(features, harmonics), atoms=5, number=17, seed=0, orders=2)


def test_third_derivatives_are_those_of_e3nn() -> None:
    assert_the_same(product("2x0e+1x1e", "1x0e+1x1e"), atoms=3, number=7, seed=0, orders=3)


@settings(max_examples=30)
@given(st.data())
def test_some_paths_of_random_widths_on_random_graphs(data: st.DataObject) -> None:
    """Pruning leaves unequal widths and removes paths."""
    muls = data.draw(st.lists(st.integers(1, 4), min_size=4, max_size=4))
    features = "+".join(f"{mul}x{Irrep(l, 1)}" for l, mul in enumerate(muls))
    kept = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True))
    atoms, number = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 30))
    assert_the_same(product(features, "1x0e+1x1e+1x2e", kept), atoms, number, data.draw(st.integers(0, 9)), orders=1)


def test_a_graph_without_edges_has_sums_of_nothing() -> None:
    assert_the_same(product("2x0e+1x1e", "1x0e+1x1e"), atoms=3, number=0, seed=0, orders=2)


def test_nothing_that_is_given_changes() -> None:
    tensor_product, generator = product(FEATURES[0], HARMONICS[2]), torch.Generator().manual_seed(0)
    given = random(tensor_product, 5, 17, generator)
    before = [x.clone() for x in given]
    _, ours = of_both(tensor_product, edges(5, 17, generator), 5)
    first, again = (derivatives(ours, given, 2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_single_precision_is_exact_to_its_rounding() -> None:
    tensor_product, generator = product(FEATURES[0], HARMONICS[2]), torch.Generator().manual_seed(0)
    given, found = random(tensor_product, 5, 17, generator), edges(5, 17, generator)
    _, ours = of_both(tensor_product, found, 5)
    single = ours(*(x.float() for x in given))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), ours(*given), rtol=1e-5, atol=1e-5)


def test_other_products_are_left_to_e3nn() -> None:
    x, y = Irreps("2x0e"), Irreps("1x0e")
    with plain():
        mixing = TensorProduct(x, y, Irreps("3x0e"), [(0, 0, 0, "uvw", True)], shared_weights=False)
        several = TensorProduct(x, Irreps("2x0e"), x, [(0, 0, 0, "uvu", True)], shared_weights=False)
        twice = TensorProduct(x + x, y, x, [(0, 0, 0, "uvu", True), (1, 0, 0, "uvu", True)], shared_weights=False)
    assert [ChannelwiseProduct.of(other) for other in (mixing, several, twice, nn.Identity())] == [None] * 4


@pytest.fixture(params=["7net-l3i5", "7net-0", "pruned", "O(3)"], scope="module")
def potential(request: pytest.FixtureRequest, parent: ep.Potential) -> ep.Potential:
    """Published models, a child with another width for every l and interaction, and features of both parities."""
    match request.param:
        case "pruned":
            scores = ep.data_free_scores(parent, ep.Magnitude())
            return ep.prune(parent, ep.allocate(parent, [ep.HiddenIrreps.parse(ODD)], scores))
        case "O(3)":
            [arch] = [arch for name, arch in KINDS.items() if name.startswith("O(3)")]
            return ep.Potential.create(SevenNetAdapter(), random_checkpoint(arch), torch.float64)
    return ep.load(request.param, dtype=torch.float64)


@pytest.fixture(scope="module")
def crystals() -> list[Atoms]:
    """Two atoms with bonds of their own and a molecule whose atoms have few neighbours."""
    found = list(ep.probe_structures([1, 8, 14, 29]).values())[1::2]
    return [displaced(atoms) for atoms in found]


def displaced(atoms: Atoms) -> Atoms:
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.usefixtures("plain_code")
def test_models_are_those_of_upstreams_code(potential: ep.Potential, crystals: list[Atoms]) -> None:
    upstream = potential.as_upstream()
    assert interactions(potential, QuickerConvolution) == potential.architecture.interactions
    assert interactions(upstream, QuickerConvolution) == 0
    for atoms, ours, theirs in zip(crystals, *(p.predict(crystals) for p in (potential, upstream)), strict=True):
        assert abs(ours.energy - theirs.energy) < 1e-12 * len(atoms)
        assert (ours.forces - theirs.forces).abs().max() < 1e-10
        torch.testing.assert_close(ours.stress, theirs.stress, atol=1e-12, rtol=0, equal_nan=True)


@pytest.mark.usefixtures("plain_code")
def test_weights_learn_what_they_learn_by_upstreams_code(potential: ep.Potential, crystals: list[Atoms]) -> None:
    ours, theirs = (taught(one, crystals[:1]) for one in (potential, potential.as_upstream()))
    assert ours.keys() == theirs.keys()
    size = max(gradient.norm() for gradient in theirs.values())
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-13 * size, name


def interactions(potential: ep.Potential, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in potential.module.children())


@pytest.mark.usefixtures("plain_code")
def test_parameters_and_buffers_are_upstreams(parent: ep.Potential) -> None:
    upstream = parent.as_upstream().module
    for listed in (nn.Module.named_parameters, nn.Module.named_buffers, nn.Module.state_dict):
        assert list(dict(listed(parent.module))) == list(dict(listed(upstream)))


@pytest.mark.usefixtures("plain_code")
def test_other_devices_have_the_code_of_e3nn(device: torch.device, crystals: list[Atoms]) -> None:
    """The same numbers on a device on which nothing was timed."""
    small = ep.Potential.create(SevenNetAdapter(), random_checkpoint(architecture()), torch.float64)
    there = small.on(device).predict(crystals)
    for ours, theirs in zip(small.as_upstream().predict(crystals), there, strict=True):
        assert torch.equal(ours.forces, theirs.forces.cpu()) or device.type == "cuda"
        torch.testing.assert_close(ours.forces, theirs.forces.cpu(), atol=1e-10, rtol=0)
