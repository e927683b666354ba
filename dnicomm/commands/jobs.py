"""One job of ``dnicomm run``: a configuration built into a simulation and trained in its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnicomm.commands.build import build
from dnicomm.commands.keys import check_keys
from dnicomm.commands.table import headline, screen
from dnicomm.commands.training import alone, carry_on, conclude, discard, quoted
from dnicomm.errors import UserError
from dnicomm.runs import RunFolder


def run_job(
    values: Mapping[str, Any], notes: Mapping[str, Any], folder: Path, number: int | None
) -> None:
    """Build, train, show.

    Args:
        values: the configuration.
        notes: options chosen and overrides typed, kept beside it.
        folder: where the run goes.
        number: of this job in a sweep; None: there is one job.

    Raises:
        UserError: if the configuration or a plug-in is wrong; then no run is left behind.
    """
    console = screen()
    if (folder / "config.yaml").exists():
        path = quoted(folder)
        raise UserError(f"{path} already holds a run, and nothing is written over. "
                        f"Go on with it: dnicomm resume {path}")  # fmt: skip
    config = check_keys(values)
    simulation = build(config)
    run = RunFolder.create(folder, {**config, **notes})
    if number is not None:
        console.print(f"#{number} {shown(notes['overrides'])}", style="bold")
    try:
        with alone(folder):
            result = carry_on(simulation, config, run, console)
    except Exception:
        discard(folder)
        raise
    if number is None:
        conclude(console, folder, result.summary, notes["overrides"])
    else:
        line = "  ".join([*headline(result.summary), f"{result.summary['wall_s']:.0f} s"])
        console.print(f"{line}  {quoted(folder)}", soft_wrap=True)


def shown(overrides: Sequence[str]) -> str:
    """Overrides as they would be typed."""
    return shlex.join(overrides)
