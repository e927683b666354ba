"""The table at the end of a sweep: what differed between its runs, and what each reached."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from dnicomm.commands.at_work import quoted
from dnicomm.commands.table import figure, screen
from dnicomm.commands.work import kind_of
from dnicomm.errors import UserError
from dnicomm.runs import RunFolder


def print_sweep(folder: Path) -> None:
    """Print a row a run; nothing if there are no finished ones."""
    console = screen()
    runs = _runs(folder)
    if not runs:
        return
    typed = {name: _typed(config) for name, (config, _) in runs.items()}
    keys = list(dict.fromkeys(key for overrides in typed.values() for key in overrides))
    varied = [key for key in keys if len({json.dumps(o.get(key)) for o in typed.values()}) > 1]
    reached = {name: kind_of(config).figures(summary) for name, (config, summary) in runs.items()}
    metrics = list(dict.fromkeys(metric for figures in reached.values() for metric in figures))
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for key in ["run", *varied]:
        table.add_column(key, no_wrap=True)
    for name in metrics:
        table.add_column(name, justify="right", no_wrap=True)
    for name in runs:
        figures = [figure(reached[name].get(metric)) for metric in metrics]
        table.add_row(name, *(typed[name].get(key, "") for key in varied), *figures)
    console.print()
    console.print(table)
    console.print(f"\n{quoted(folder)}", soft_wrap=True, style="bold")
    side_by_side = f"curves side by side: dnicomm compare {quoted(folder)}"
    console.print(side_by_side, soft_wrap=True, style="dim")


def _runs(folder: Path) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Configuration and summary of the finished runs below a folder, in the order of their jobs."""
    found: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for path in sorted(folder.iterdir(), key=lambda p: (_number(p.name), p.name)):
        try:
            run = RunFolder.open(path)
            summary = run.summary()
        except UserError:
            continue
        if summary is not None:
            found[path.name] = (run.config, summary)
    return found


def _typed(config: Mapping[str, Any]) -> dict[str, str]:
    pairs = (str(override).partition("=") for override in config.get("overrides", ()))
    return {key: value for key, _, value in pairs}


def _number(name: str) -> int:
    first = name.partition("-")[0]
    return int(first) if first.isdigit() else -1
