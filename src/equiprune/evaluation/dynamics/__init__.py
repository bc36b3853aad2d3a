"""Molecular dynamics of models from the same start: is energy conserved, is the liquid the same, when does it fail."""
