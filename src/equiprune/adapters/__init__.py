"""What an architecture is: adapters over upstream models, found by entry points and loaded lazily."""

from equiprune.adapters.base import Architecture, Checkpoint, ModelAdapter, Taps, load_weights
from equiprune.adapters.registry import adapter_for, adapter_named, aliases

__all__ = [
    "Architecture",
    "Checkpoint",
    "ModelAdapter",
    "Taps",
    "adapter_for",
    "adapter_named",
    "aliases",
    "load_weights",
]
