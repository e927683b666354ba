"""``dnicomm compare``: runs side by side, printed, and as files. Loads no torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from dnicomm.commands.arguments import Parser
from dnicomm.commands.table import LONGEST, figure, plain_table, screen
from dnicomm.errors import UserError, one_line
from dnicomm.report.comparing import Comparison, compare, shown
from dnicomm.report.comparison import comparison_page
from dnicomm.report.comparison_files import comparison_csv, draw_comparison, why_not_drawn
from dnicomm.runs.atomic import replacing, write_text
from dnicomm.runs.bounds import as_written

NAME = "comparison"


def main(arguments: Sequence[str]) -> int:
    """Compare the runs that the arguments name; the exit code.

    Raises:
        UserError: if there is no such folder, no run in it, or nowhere to write.
    """
    parser = Parser("dnicomm compare", description="Runs side by side: curves, table, differences.")
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path,
        help="folders of runs, of sweeps, or with runs somewhere below",
    )  # fmt: skip
    parser.add_argument("--metric", help="to compare by; default: the runs' own figure")
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path,
        help=f"where the files go; default: {NAME}, in the one folder given, or here",
    )  # fmt: skip
    given = parser.parse_intermixed_args(arguments)
    with as_written(", ".join(map(str, given.runs))):
        _show(given)
    return 0


def _show(given: argparse.Namespace) -> None:
    found = compare(given.runs, given.metric)
    for line in found.missing:
        print(f"dnicomm: {one_line(line)}", file=sys.stderr)
    above = given.runs[0] if len(given.runs) == 1 else Path()
    target = given.output or above / NAME
    if given.output is None and target.is_symlink():  # somebody else's, to somewhere else
        raise UserError(f"{target}: is a link; say where the files go: --output FOLDER")
    title = " and ".join(dict.fromkeys(path.absolute().name for path in given.runs[:3]))
    files = list(_write(found, title + " …" * (len(given.runs) > 3), target))
    console = screen()
    console.print(_table(found))
    for path in files:
        console.print(str(path), soft_wrap=True, style="bold")


def _table(found: Comparison) -> Table:
    """A row a setting, the best first."""
    first, *more = found.columns or ["setting"]
    figures = [found.metric or "result", "95 % interval", found.over, "state"]
    table = plain_table(first, [*more, *figures])
    for setting in found.settings[:LONGEST]:
        reached = setting.spread(found.metric)
        interval = None if reached is None else reached.interval()
        between = "" if interval is None else f"{figure(interval[0])} to {figure(interval[1])}"
        cells = found.cells(setting) or [setting.label]
        table.add_row(*cells, shown(reached), between, figure(setting.time()), setting.state())
    if len(found.settings) > LONGEST:
        rest = len(found.settings) - LONGEST
        table.add_row(f"… and {rest} more", *[""] * (len(table.columns) - 1), style="dim")
    return table


def _write(found: Comparison, title: str, target: Path) -> Iterator[Path]:
    """Write the files, in place of earlier ones; where they are.

    Raises:
        UserError: if they can't be written there.
    """
    page, sheet, picture = (target / f"{NAME}.{kind}" for kind in ("html", "csv", "png"))
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_text(page, comparison_page(found, title, target))
        yield page
        write_text(sheet, comparison_csv(found))
        yield sheet
        why = why_not_drawn()
        if why is not None:
            print(f"dnicomm: {picture} needs the package matplotlib, which {why}. "
                  'Install it: pip install "dnicomm[plot]"', file=sys.stderr)  # fmt: skip
            return
        with replacing(picture) as temporary:
            drawn = draw_comparison(found, temporary)
            temporary.touch()
        if drawn:
            yield picture
        else:
            picture.unlink()
    except OSError as error:
        raise UserError(f"{target}: cannot be written to: {error.strerror}") from error
