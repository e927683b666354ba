"""The pages that a run leaves behind at its end."""

from __future__ import annotations

import sys
from pathlib import Path

from dnicomm.commands.at_work import quoted
from dnicomm.report import write_report, write_reports


def leave_page(folder: Path, beside: bool = True) -> None:
    """Write the report of a run that has ended.

    A run that took hours is not to fail over a picture of it: what goes wrong is said.
    """
    try:
        write_report(folder, beside)
    except Exception as error:
        _complain(error, quoted(folder))


def leave_pages(sweep: Path) -> None:
    """The same for all runs of a sweep, each with the others beside it."""
    try:
        write_reports(sweep)
    except Exception as error:
        _complain(error, "RUN")


def _complain(error: Exception, run: str) -> None:
    print(
        f"dnicomm: no report was written ({type(error).__name__}: {error}); the run is whole. "
        f"To try again: dnicomm report {run}",
        file=sys.stderr,
    )
