"""Mutation testing: mutants of functions, and the tests that should notice them."""

FOLDERS = ("blocks", "pruning", "potentials")
"""Folders of the package whose functions are changed."""
