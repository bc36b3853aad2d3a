"""Layouts of e3nn's building blocks, against numbers worked out by hand from its documentation."""

from math import sqrt

import pytest

from equiprune import Irrep, Irreps
from equiprune.adapters.e3nn.layouts import (
    Labelled,
    fully_connected_net,
    fully_connected_tensor_product,
    gate_inputs,
    labelled_irreps,
    linear,
    simplified,
    uvu_paths,
)
from equiprune.blocks import Segment
from equiprune.blocks.layout import axis_size


def written(entries: Labelled) -> str:
    return "+".join(f"{axis_size(axis)}x{ir}" for ir, axis in entries)


def labels(space: str, irreps: str) -> Labelled:
    return labelled_irreps(space, Irreps.parse(irreps))


def test_linear_has_a_matrix_per_pair_of_equal_irreps() -> None:
    layout = linear("f", labels("x", "4x0e+3x1o+2x2e"), labels("y", "5x0e+6x1o"))["f.weight"]
    assert [path.shape for path in layout.paths] == [(4, 5), (3, 6)]
    assert [path.scale for path in layout.paths] == pytest.approx([1 / sqrt(4), 1 / sqrt(3)])
    assert layout.shape == (4 * 5 + 3 * 6,)


def test_linear_counts_the_fan_in_over_all_entries_of_an_irrep() -> None:
    layout = linear("f", labels("x", "4x0e") + labels("head", "2x0e"), labels("y", "5x0e"))["f.weight"]
    assert [path.shape for path in layout.paths] == [(4, 5), (2, 5)]
    assert [path.scale for path in layout.paths] == pytest.approx([1 / sqrt(6)] * 2)
    assert len({path.key for path in layout.paths}) == 2


def test_only_true_scalars_get_a_bias() -> None:
    layouts = linear("f", labels("x", "4x0e+3x0o"), labels("y", "5x0e+6x0o"), biases=True)
    assert layouts["f.bias"].shape == (5,)
    assert "f.bias" not in linear("f", labels("x", "4x0o"), labels("y", "6x0o"), biases=True)


def test_a_linear_map_between_different_irreps_has_no_weight() -> None:
    assert linear("f", labels("x", "4x0e"), labels("y", "6x1o")) == {}


def test_tensor_product_with_scalars_is_normalised_by_both_operands() -> None:
    species = (Segment("elements", Irrep(0, 1), 7),)
    layout = fully_connected_tensor_product("f", labels("x", "4x0e+3x1o"), species, labels("y", "5x0e+6x1o"))[
        "f.weight"
    ]
    assert [path.shape for path in layout.paths] == [(4, 7, 5), (3, 7, 6)]
    assert [path.scale for path in layout.paths] == pytest.approx([sqrt(1 / 28), sqrt(3 / 21)])


def test_channelwise_paths_are_sorted_as_e3nn_sorts_them() -> None:
    edges = Irreps.spherical_harmonics(1, -1)
    paths = uvu_paths(labels("x", "4x0e+3x1o"), edges, lambda ir: True)
    assert written(paths) == "4x0e+3x0e+4x1o+3x1o+3x1e+3x2e"
    assert [axis[0].use for _, axis in paths][:2] == ["0e*0e->0e", "1o*1o->0e"]
    assert written(simplified(paths)) == "7x0e+7x1o+3x1e+3x2e"


def test_paths_that_are_not_allowed_are_absent() -> None:
    paths = uvu_paths(labels("x", "4x0e+3x1o"), Irreps.spherical_harmonics(1, -1), lambda ir: ir.l == 0)
    assert written(paths) == "4x0e+3x0e"


def test_a_network_is_normalised_by_its_inputs() -> None:
    axes = [(Segment(name, Irrep(0, 1), size),) for name, size in (("a", 8), ("b", 64), ("c", 3))]
    layouts = fully_connected_net("f", axes)
    assert {name: layout.shape for name, layout in layouts.items()} == {
        "f.layer0.weight": (8, 64),
        "f.layer1.weight": (64, 3),
    }
    assert [layout.paths[0].scale for layout in layouts.values()] == pytest.approx([1 / sqrt(8), 1 / sqrt(64)])


def test_gate_scalars_repeat_the_channels_they_gate() -> None:
    entries = gate_inputs("x", Irreps.parse("8x0e+4x1o+2x2e"))
    assert written(entries) == "14x0e+4x1o+2x2e"
    scalars = entries[0][1]
    assert [(str(s.irrep), s.mul, s.use) for s in scalars] == [("0e", 8, ""), ("1o", 4, "gate"), ("2e", 2, "gate")]


def test_gates_of_odd_scalars_stay_apart_from_them() -> None:
    assert written(gate_inputs("x", Irreps.parse("3x0o+8x0e+4x1o"))) == "3x0o+12x0e+4x1o"
