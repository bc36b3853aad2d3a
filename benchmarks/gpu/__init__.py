"""Runs on a machine with a GPU and no network: correctness, tables, and the training of the shipped models."""
