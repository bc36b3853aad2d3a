"""Proof about a file: exactness, physics, lineage, and the laws of adapters."""
