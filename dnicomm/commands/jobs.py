"""One job of ``dnicomm run`` or ``dnicomm bench``: built, and carried to its end in its folder."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnicomm.commands.at_work import alone, discard, quoted
from dnicomm.commands.loggers import logged, require
from dnicomm.commands.pages import leave_page
from dnicomm.commands.table import screen
from dnicomm.commands.work import Work, kind_of
from dnicomm.errors import UserError
from dnicomm.runs import RunFolder
from dnicomm.sim.closing import OpenThings, closing


def check_job(values: Mapping[str, Any], notes: Mapping[str, Any]) -> Work:
    """Build what a configuration describes, for the caller to close; leave nothing.

    Raises:
        UserError: if it is wrong.
    """
    work = kind_of(notes)(values)
    with OpenThings() as opened:
        opened.add(work, "this run")
        require(work.config["logger"])
    return work


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
        UserError: if the configuration or a plug-in is wrong; then no run is left behind, unless it
            had been evaluated already.
    """
    console = screen()
    if (folder / "config.yaml").exists():
        path = quoted(folder)
        raise UserError(f"{path} already holds a run, and nothing is written over. "
                        f"Go on with it: dnicomm resume {path}")  # fmt: skip
    with closing(check_job(values, notes)) as work:
        run = RunFolder.create(folder, {**work.config, **notes})
        if run.foreign:
            _say_once(f"this run is not signed ({run.foreign}): to go on with plug-ins of your own "
                      "in it, name them with --trust PACKAGE")  # fmt: skip
        if number is not None:
            console.print(f"#{number} {shown(notes['overrides'])}", style="bold")
        try:
            with alone(folder), logged(run, work.config["logger"]):
                summary = work.carry_on(run, console)
        except Exception as error:
            discard(folder)
            if isinstance(error, UserError) and (folder / "config.yaml").exists():
                path = quoted(folder)
                kept = f"Up to its last evaluation the run is kept: dnicomm resume {path}"
                raise UserError(f"{str(error).rstrip('.')}. {kept}") from error
            raise
        leave_page(folder, beside=number is None)  # a sweep's are written anew at its end
        if number is None:
            work.conclude(console, folder, summary, run.config)
        else:
            console.print("  ".join([*work.words(summary), quoted(folder)]), soft_wrap=True)


@functools.cache
def _say_once(line: str) -> None:
    """Say something of this machine; not for each run of a sweep."""
    print(f"dnicomm: {line}", file=sys.stderr)


def shown(overrides: Sequence[str]) -> str:
    """Overrides as they would be typed."""
    return shlex.join(overrides)
