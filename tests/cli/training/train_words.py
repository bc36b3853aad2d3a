"""The words of ``equiprune train`` in tests of it."""

from pathlib import Path


def train(model: Path | str, labelled: Path, folder: Path, *flags: object, epochs: object = 2) -> list[object]:
    """Training a model for a few epochs in the subfolder ``run`` of a folder."""
    return ["train", model, "--data", labelled, "-o", folder / "run", "--epochs", epochs, *flags]
