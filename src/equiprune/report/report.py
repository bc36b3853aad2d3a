"""Reports from the folder of a run to a file."""

from __future__ import annotations

from pathlib import Path

from equiprune.files.atomic import check_writable, write_text


def write_report(folder: str | Path, output: str | Path) -> Path:
    """Write one HTML page about the folder of a run; it needs no network and no other file.

    Args:
        folder: output of ``compress``, ``run`` or ``demo``, or any folder with results as ``--json`` prints them.
        output: the page; must not exist.

    Raises:
        OutputError: nothing in the folder is a result, or the page exists or cannot be written.
    """
    page = report_page(Path(folder))  # first: where there is no folder, that is what is wrong
    check_writable(Path(output))
    write_text(Path(output), page)
    return Path(output)


def report_page(folder: Path) -> str:
    """The HTML of the page about a folder; raises `OutputError` where nothing in it is a result."""
    from equiprune.report.page import page  # plotly is slow to import, and only needed here
    from equiprune.report.run_directory import RunDirectory
    from equiprune.report.sections import sections

    return page(f"Report on {folder.resolve().name}", list(sections(RunDirectory.read(folder))))
