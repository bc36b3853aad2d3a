"""Accuracy and speed of a model."""
