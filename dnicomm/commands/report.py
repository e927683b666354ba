"""``dnicomm report``: the pages of runs, written anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnicomm.commands.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """Write the reports of the runs that the arguments name; the exit code.

    Raises:
        UserError: if there is nothing of a run there.
    """
    parser = Parser("dnicomm report", description="Write report.html and trace.json of runs.")
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folders of runs")
    given = parser.parse_intermixed_args(arguments)

    from dnicomm.report import write_report
    from dnicomm.runs.bounds import as_written

    for run in given.runs:
        with as_written(str(run)):
            print(write_report(run))
    return 0
