"""The models that come with equiprune: one folder each, opened by the folder's name (``ep.load("7net-compact")``).

A folder is a model in the native format with three files beside it: the model's card (``README.md``), the licence that
its weights carry (``LICENSE``), and what ``benchmarks/shipped.py`` measured (``measured.json``). A folder put here is a
shipped model; nothing lists them.
"""

from equiprune.models.shipped import ShippedModel, shipped_model, shipped_models

__all__ = ["ShippedModel", "shipped_model", "shipped_models"]
