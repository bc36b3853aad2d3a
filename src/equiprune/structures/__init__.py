"""Atoms in: sequences of structures, their labels, and the graphs that models evaluate."""
