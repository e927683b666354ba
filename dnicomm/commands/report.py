"""``dnicomm report``: the page of a run, written anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnicomm.commands.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """Write the report of the run that the arguments name; the exit code.

    Raises:
        UserError: if there is nothing of a run there.
    """
    parser = Parser("dnicomm report", description="Write report.html of a run.")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    given = parser.parse_args(arguments)

    from dnicomm.report import write_report

    print(write_report(given.run))
    return 0
