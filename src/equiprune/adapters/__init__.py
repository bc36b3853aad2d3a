"""Adapters: one architecture each, over upstream models, found by entry points and loaded lazily."""

from equiprune.adapters.base import Architecture, Checkpoint, ModelAdapter, load_weights
from equiprune.adapters.evaluation import NO_TAPS, Outputs, Taps
from equiprune.adapters.registry import adapter_for, adapter_named, aliases, file_of, usable_adapters

__all__ = [
    "NO_TAPS",
    "Architecture",
    "Checkpoint",
    "ModelAdapter",
    "Outputs",
    "Taps",
    "adapter_for",
    "adapter_named",
    "aliases",
    "file_of",
    "load_weights",
    "usable_adapters",
]
