"""``dnicomm bench table``: finished runs as the paper's tables. Loads no torch."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from dnicomm.bench.gathering import Setting, gather, settings
from dnicomm.bench.tables import Table, csv_text, legend, markdown, tables
from dnicomm.commands.arguments import Parser
from dnicomm.commands.table import screen
from dnicomm.errors import UserError

WIDEST = 10_000
FORMATS = ("text", "markdown", "csv")


def main(arguments: Sequence[str]) -> int:
    """Print the tables that the arguments ask for; the exit code.

    Raises:
        UserError: if there is no such folder, or no finished run in it.
    """
    parser = Parser("dnicomm bench table", description="Finished runs as the paper's tables.")
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="*", type=Path, default=[Path("runs")],
        help="looked through for runs, with all that lies below; default: runs",
    )  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write it there")
    given = parser.parse_intermixed_args(arguments)
    found, passed = _gathered(given.folders)
    if not found:
        below = ", ".join(str(folder) for folder in given.folders)
        raise UserError(f"{below}: there is no finished run of dnicomm bench" + _listed(passed))
    for line in passed:
        print(f"dnicomm: passed over: {line}", file=sys.stderr)
    if given.format == "text":
        console = screen()
        if given.output is None:
            _print(console, found)
            return 0
        console = Console(file=io.StringIO(), markup=False, emoji=False, highlight=False)
        _print(console, found)
        text = console.file.getvalue()  # type: ignore[attr-defined]
    else:
        text = csv_text(found) if given.format == "csv" else markdown(tables(found))
    if given.output is None:
        print(text, end="")
        return 0
    try:
        given.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{given.output} cannot be written: {error.strerror}") from error
    return 0


def print_tables(console: Console, folders: Sequence[Path]) -> None:
    """The tables of what is finished in some folders; nothing if nothing is."""
    found, _ = _gathered([folder for folder in folders if folder.is_dir()])
    if found:
        console.print()
        _print(console, found)


def _gathered(folders: Sequence[Path]) -> tuple[list[Setting], list[str]]:
    runs, passed = gather(folders)
    found, repeated = settings(runs)
    return found, [*passed, *repeated]


def _listed(passed: Sequence[str]) -> str:
    return f"; passed over: {'; '.join(passed)}" if passed else ""


def _print(console: Console, found: Sequence[Setting]) -> None:
    for table in tables(found):
        drawn = _drawn(table)
        console.print(table.title, style="bold", soft_wrap=True)
        before = console.width
        # as wide as it has to be: a figure that is cut off is worse than a broken line
        needed = console.measure(drawn, options=console.options.update(width=WIDEST)).maximum
        console.width = max(before, needed)
        console.print(drawn, crop=False)
        console.width = before
        for note in table.notes:
            console.print(note, style="dim", soft_wrap=True)
        console.print()
    for line in legend():
        console.print(line, style="dim", soft_wrap=True)


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for number, column in enumerate(table.columns):
        justify = "left" if number < table.names else "right"
        drawn.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in table.rows:
        drawn.add_row(*row)
    return drawn
