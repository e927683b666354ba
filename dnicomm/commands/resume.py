"""``dnicomm resume``: a run that was stopped goes on from its last checkpoint."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnicomm.commands.arguments import Parser
from dnicomm.commands.leftovers import SWEEP
from dnicomm.commands.provenance import add_trust, check_links, confine
from dnicomm.errors import UserError, one_line
from dnicomm.runs import Checkpoint, RunFolder
from dnicomm.runs.bounds import as_written

if TYPE_CHECKING:
    from rich.console import Console

    from dnicomm.commands.work import Work


def main(arguments: Sequence[str]) -> int:
    """Go on with the run that the arguments name; the exit code.

    Raises:
        UserError: if it is no run folder, or its configuration no longer fits.
    """
    parser = Parser("dnicomm resume", description="Go on with a run from its last checkpoint.")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    add_trust(parser)
    given = parser.parse_args(arguments)
    run = open_run(given.run)

    from dnicomm.commands.at_work import alone
    from dnicomm.commands.table import screen
    from dnicomm.commands.work import kind_of

    console, kind = screen(), kind_of(run.config)
    with alone(run.path):
        ended = run.summary()
        if ended is None:
            with confine(run, given.trust):
                summary = _go_on(run, kind, console)
    if ended is None:
        kind.conclude(console, run.path, summary, _config_to_show(run))
    else:
        console.print("this run has ended")
        with as_written(str(run.path / "summary.json")):
            kind.conclude(console, run.path, ended, _config_to_show(run))
    return 0


def _config_to_show(run: RunFolder) -> Mapping[str, Any]:
    """The configuration, of a stranger's run without what would be shown as commands to type."""
    return run.config if run.is_own else {**run.config, "overrides": ()}


def _go_on(run: RunFolder, kind: type[Work], console: Console) -> Mapping[str, Any]:
    from dnicomm.commands.loggers import logged, require
    from dnicomm.commands.pages import leave_page
    from dnicomm.sim.closing import closing

    check_links(run)
    with closing(kind(run.config)) as work:
        require(work.config["logger"])
        checkpoint = last_checkpoint(run)
        reached = 0 if checkpoint is None else checkpoint.time
        run.truncate_metrics(reached, kind.recorded)
        run.drop_recordings(reached)
        if checkpoint is not None:
            work.restore(checkpoint)
            console.print(f"going on from {work.time} {checkpoint.time}")
        else:
            console.print("there is no checkpoint yet: beginning anew")
        with logged(run, work.config["logger"]):
            summary = work.carry_on(run, console)
        leave_page(run.path)
        return summary


def last_checkpoint(run: RunFolder) -> Checkpoint | None:
    """The newest checkpoint that is whole, None before the first; says which it passed over.

    Raises:
        UserError: if there are some, and all are damaged.
    """
    with warnings.catch_warnings(record=True) as passed:
        warnings.simplefilter("always")
        checkpoint = run.latest_checkpoint()
    for warning in passed:
        print(f"dnicomm: {one_line(str(warning.message))}", file=sys.stderr)
    return checkpoint


def open_run(folder: Path) -> RunFolder:
    """The run in a folder.

    Raises:
        UserError: if it is none, or damaged; names the runs where it is a sweep.
    """
    if (folder / SWEEP).exists() and not (folder / "config.yaml").exists():
        jobs = sorted(path.name for path in folder.iterdir() if (path / "config.yaml").exists())
        raise UserError(f"{folder} is a sweep; name one of its runs: {', '.join(jobs)}")
    run = RunFolder.open(folder)
    _check_notes(run)
    return run


def _check_notes(run: RunFolder) -> None:
    """Check what a run notes beside its configuration, which nothing else looks at.

    Raises:
        UserError: something is of another type.
    """
    notes = {"choices": {}, "overrides": [], "bench": ""} | run.config
    choices, overrides, bench = (notes[key] for key in ("choices", "overrides", "bench"))
    wrong = {
        "choices": not isinstance(choices, dict)
        or not all(isinstance(value, str | None) for value in choices.values()),
        "overrides": not isinstance(overrides, list)
        or not all(isinstance(word, str) for word in overrides),
        "bench": not isinstance(bench, str),
    }
    for key in wrong:
        if wrong[key]:
            raise UserError(f"{run.path / 'config.yaml'} is damaged: its {key} is no such note")
    if "bench" in run.config:
        from dnicomm.commands.bench.catalogue import tree

        tree(bench)
