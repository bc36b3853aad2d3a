"""Reading SevenNet's ``.pth`` files without running what they contain, and in the layout of today's sevenn.

A checkpoint is a pickle of dictionaries, tensors and a few numpy arrays, opened as such (see
`equiprune.files.torch_files`), so that a hostile file is refused instead of executed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equiprune.adapters.base import Checkpoint
from equiprune.adapters.e3nn.layouts import labelled_irreps, uvu_paths
from equiprune.adapters.sevennet.architecture import SevenNetArchitecture, from_config, version_numbers
from equiprune.adapters.sevennet.layouts import weight_layouts
from equiprune.adapters.sevennet.published import LICENCE, downloads, shipped
from equiprune.blocks import Irrep
from equiprune.errors import CheckpointError
from equiprune.files.atomic import sha256_of
from equiprune.files.download import fetch
from equiprune.files.outline import entry, outline
from equiprune.files.torch_files import read_torch_file, unwrapped

_ADVICE = "Give a .pth that 'sevenn train' wrote."

PROVENANCE_KEY = "equiprune"
"""Where exported checkpoints carry their history; sevenn ignores unknown top-level keys."""


def recognised(path: Path) -> bool:
    """True for a file with the entries of every sevenn checkpoint."""
    content = outline(path)
    config, weights = entry(content, "config"), entry(content, "model_state_dict")
    return isinstance(weights, dict) and isinstance(config, dict) and {"version", "chemical_species"} <= config.keys()


def read(source: str | Path, *, trust: bool = False) -> Checkpoint:
    """Open an alias or a file. Raises `CheckpointError`."""
    alias = str(source).lower()
    path = shipped(alias) or (fetch(downloads()[alias]) if alias in downloads() else Path(source))
    content = read_torch_file(path, trust=trust, what="SevenNet checkpoint", advice=_ADVICE)
    try:
        architecture, weights = _interpreted(content, path)
        licence, history = _licence(content), _history(content)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"'{path}' is a torch file but not a SevenNet checkpoint ({reason}). {_ADVICE}"
        ) from error
    return Checkpoint(architecture, weights, licence, sha256_of(path), str(source), history)


def _interpreted(content: Mapping[str, Any], path: Path) -> tuple[SevenNetArchitecture, dict[str, Tensor]]:
    config, version = content["config"], version_numbers(content["config"]["version"])
    state = _renamed(version, unwrapped(content["model_state_dict"]))
    architecture = from_config(config, tuple(state["rescale_atomic_energy.shift"].shape))
    if version < (0, 11, 0):
        state = _modern_convolutions(architecture, state)
    return architecture, _parameters(architecture, state, path)


def _licence(content: Mapping[str, Any]) -> str:
    return json.loads(content[PROVENANCE_KEY])["licence"] if PROVENANCE_KEY in content else LICENCE


def _history(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    return tuple(json.loads(content[PROVENANCE_KEY])["history"]) if PROVENANCE_KEY in content else ()


def _renamed(version: tuple[int, ...], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Module names of sevenn before 0.10 (sevenn/scripts/backward_compatibility.py, ``map_old_model``)."""
    if version >= (0, 10, 0):
        return state
    heads = {
        "EdgeEmbedding": "edge_embedding",
        "reducing nn input to hidden": "reduce_input_to_hidden",
        "reducing nn hidden to energy": "reduce_hidden_to_energy",
        "rescale atomic energy": "rescale_atomic_energy",
    }
    renamed = {}
    for name, tensor in state.items():
        head, _, rest = name.partition(".")
        head = heads.get(head, head.replace(" ", "_"))
        renamed[f"{head}.{rest.replace('denumerator', 'denominator')}"] = tensor
    return renamed


def _modern_convolutions(arch: SevenNetArchitecture, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Column order and Clebsch-Gordan signs of sevenn >= 0.11.

    Until 0.11 the radial network's columns were in the order in which paths are enumerated; since then they are in
    the order of the sorted outputs. Old files were also written with e3nn versions whose Wigner 3j symbols differ in
    sign for some paths; the sign moves into the path's weights. Files do not say which order they are in except by
    their version, so a converted state must never be saved under the old version.
    """
    converted = dict(state)
    last = len(arch.radial_widths)
    for t in range(arch.interactions):
        name = f"{t}_convolution.weight_nn.layer{last}.weight"
        pieces, start = {}, 0
        for key, mul, sign in _old_paths(arch, t, state):
            pieces[key] = sign * state[name][:, start : start + mul]
            start += mul
        converted[name] = torch.cat([pieces[key] for key in _sorted_paths(arch, t)], dim=1)
    return converted


def _old_paths(arch: SevenNetArchitecture, t: int, state: Mapping[str, Tensor]) -> Iterator[tuple[str, int, float]]:
    for mul, ir in arch.irreps[t]:
        for _, ir_edge in arch.edge_attrs:
            for ir_out in ir * ir_edge:
                if arch.message_allowed(t, ir_out):
                    yield f"{ir}*{ir_edge}->{ir_out}", mul, _sign(t, ir, ir_edge, ir_out, state)


def _sorted_paths(arch: SevenNetArchitecture, t: int) -> list[str]:
    inputs = labelled_irreps("x", arch.irreps[t])
    paths = uvu_paths(inputs, arch.edge_attrs, lambda ir: arch.message_allowed(t, ir))
    return [axis[0].use for _, axis in paths]


def _sign(t: int, a: Irrep, b: Irrep, c: Irrep, state: Mapping[str, Tensor]) -> float:
    """+1, or -1 where the stored Wigner 3j symbol has the other sign; sevenn compares those with all l > 0."""
    if not (a.l and b.l and c.l):
        return 1.0
    from e3nn.o3 import wigner_3j

    stored = state[f"{t}_convolution.convolution._compiled_main_left_right._w3j_{a.l}_{b.l}_{c.l}"]
    product = (stored * wigner_3j(a.l, b.l, c.l, dtype=stored.dtype)).sum().item()
    if abs(abs(product) - 1) > 1e-4:
        raise CheckpointError(f"Interaction {t} stores a Wigner 3j symbol ({a.l},{b.l},{c.l}) that e3nn does not know.")
    return 1.0 if product > 0 else -1.0


def _parameters(arch: SevenNetArchitecture, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    layouts = weight_layouts(arch)
    missing = sorted(layouts.keys() - state.keys())
    if missing:
        raise CheckpointError(
            f"'{path}' lacks the weights {missing[:3]}{'...' if len(missing) > 3 else ''}. Checkpoints trained with "
            "cuEquivariance, FlashTP or OpenEquivariance must be converted first: load one with "
            "sevenn.util.load_checkpoint, build_model() and save."
        )
    weights = {}
    for name, layout in layouts.items():
        if tuple(state[name].shape) != layout.shape:
            raise CheckpointError(f"'{path}': {name} has shape {tuple(state[name].shape)}, expected {layout.shape}.")
        weights[name] = state[name].detach().clone()
    return weights
