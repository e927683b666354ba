"""One configuration or a sweep of them, composed by Hydra, each of them a job.

A sweep is rehearsed: what is wrong with any of its jobs is said before the first one trains.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dnicomm.commands import leftovers
from dnicomm.commands.composition import explain, explain_other, untyped
from dnicomm.commands.overrides import plain, prepare
from dnicomm.commands.tree import Tree
from dnicomm.errors import UnknownKey, UserError

# the configuration; what is kept beside it; the run folder; the number in a sweep, if it is one
Job = Callable[[Mapping[str, Any], Mapping[str, Any], Path, int | None], None]
OTHER_LAUNCHER = ("hydra/launcher", "hydra.launcher")
REHEARSABLE = ("-m", "--multirun", "--config-dir", "-cd")  # flags beside which jobs are run


class Launch:
    """What the jobs of one command leave for its end; in this process only."""

    current: Launch | None = None

    def __init__(self) -> None:
        self.swept = False
        self.wrong: set[int] = set()  # jobs of a sweep that had something in them to put right
        self.error: Exception | None = None  # what the one job ended with


def launch(tree: Tree, arguments: Sequence[str]) -> int:
    """Run what the arguments say; the exit code.

    Args:
        tree: what Hydra composes.
        arguments: overrides and Hydra's flags.

    Raises:
        UserError: if something in them is wrong.
    """
    words = prepare(arguments, tree)
    leftovers.forget()
    current = Launch.current = Launch()
    try:
        if _can_be_rehearsed(words):
            _rehearse(tree, words)
        with _called_with(words):
            _hydra_main(tree, _job)()
        current.swept = leftovers.is_sweep()
    except SystemExit as done:  # after --help
        return int(done.code or 0)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, tree, words) from error
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        if leftovers.is_sweep():  # maybe a job's own
            raise
        raise explain_other(error, tree, words) from error
    finally:
        Launch.current = None
        leftovers.remove_sweep()
    if current.error is not None:
        raise current.error
    if current.swept:
        _conclude_sweep(current)
    return 2 if current.wrong else 0


def _job(
    values: Mapping[str, Any], notes: Mapping[str, Any], folder: Path, number: int | None
) -> None:
    from dnicomm.commands.jobs import run_job  # torch takes seconds to import

    run_job(values, notes, folder, number)


def _rehearsal(
    values: Mapping[str, Any], notes: Mapping[str, Any], folder: Path, number: int | None
) -> None:
    from dnicomm.commands.jobs import check_job

    check_job(values, notes).close()


def _can_be_rehearsed(words: Sequence[str]) -> bool:
    """Whether these words are a sweep whose jobs Hydra's own sweeper lists beforehand."""
    flags = {word.partition("=")[0] for word in words if word.startswith("-")}
    swept = any(word.lstrip("+").startswith(("hydra/sweeper", "hydra.sweeper")) for word in words)
    return bool(flags & {"-m", "--multirun"}) and flags <= set(REHEARSABLE) and not swept


def _rehearse(tree: Tree, words: Sequence[str]) -> None:
    """Build every job of a sweep, here and one after another; say what is wrong with it."""
    kept = [word for word in words if not word.lstrip("+").startswith(OTHER_LAUNCHER)]
    with tempfile.TemporaryDirectory() as scratch, _called_with([*kept, _sweep_dir(scratch)]):
        _hydra_main(tree, _rehearsal)()
    leftovers.forget()


def _sweep_dir(folder: str) -> str:
    """The override, whatever is in the folder's name."""
    escaped = folder.replace("\\", "\\\\").replace("'", "\\'")
    return f"hydra.sweep.dir='{escaped}'"


@contextlib.contextmanager
def _called_with(words: Sequence[str]) -> Iterator[None]:
    """Hydra reads ``sys.argv``, and hands errors on only if the environment says so."""
    arguments, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [arguments[0], *words]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        yield
    finally:
        sys.argv = arguments
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _hydra_main(tree: Tree, job: Job) -> Callable[[], Any]:
    @hydra.main(config_path=f"pkg://{tree.package}", config_name=tree.name, version_base="1.3")
    def task(config: DictConfig) -> None:
        _run(config, tree, job)

    called: Callable[[], Any] = task
    return called


def _run(config: DictConfig, tree: Tree, job: Job) -> None:
    composed, current = HydraConfig.get(), Launch.current
    folder = Path(composed.runtime.output_dir)
    swept = composed.mode == RunMode.MULTIRUN
    if current is not None and swept and composed.job.num in current.wrong:
        leftovers.remove_empty(folder)
        return
    choices = {g: o for g, o in composed.runtime.choices.items() if g in tree.groups}
    try:
        try:
            values: Any = OmegaConf.to_container(config, resolve=True)
            words = plain(composed.overrides.task, tree)
        except OmegaConfBaseException as error:
            raise explain(error, tree, ()) from error
        notes = {**tree.notes, "choices": choices, "overrides": words}
        try:
            job(values, notes, folder, composed.job.num if swept else None)
        except UnknownKey as error:
            raise untyped(error, choices, words) from error
    except Exception as error:
        leftovers.remove_empty(folder)
        if current is None:  # in a process of another launcher: Hydra carries it home
            raise
        if not swept:  # Hydra would print more about it
            current.error = error
        elif isinstance(error, UserError):
            current.wrong.add(composed.job.num)
            print(f"dnicomm: #{composed.job.num}: {error}", file=sys.stderr)
        else:
            raise
    except KeyboardInterrupt:
        leftovers.remove_empty(folder)
        raise


def _conclude_sweep(current: Launch) -> None:
    folder = leftovers.Leftovers.target
    if folder is not None and folder.is_dir():
        from dnicomm.commands.pages import leave_pages
        from dnicomm.commands.sweep import print_sweep

        leave_pages(folder)
        print_sweep(folder)
    elif not current.wrong:
        raise UserError("this sweep has no runs: each KEY=A,B needs at least one value")
