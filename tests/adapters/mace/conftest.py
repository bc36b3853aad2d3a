"""MACE's tests need MACE: they are collected only where it is installed."""

import importlib.util

if importlib.util.find_spec("mace") is None:
    collect_ignore_glob = ["test_*.py"]
