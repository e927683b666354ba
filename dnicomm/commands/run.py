"""``dnicomm run``: one configuration or a sweep, composed by Hydra, built, trained and shown."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dnicomm.commands import leftovers
from dnicomm.commands.composition import explain, explain_other
from dnicomm.commands.options import GROUPS, register_plugins
from dnicomm.commands.overrides import plain, prepare
from dnicomm.errors import UserError


class Launch:
    """What the jobs of one command leave for its end; in this process only."""

    current: Launch | None = None

    def __init__(self) -> None:
        self.swept = False
        self.failed = False  # a job of a sweep had something in it to put right
        self.error: Exception | None = None  # what the one job ended with


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; the exit code.

    Raises:
        UserError: if something in them is wrong.
    """
    words = prepare(arguments)
    leftovers.forget()
    launch = Launch.current = Launch()
    register_plugins()
    try:
        with _called_with(words):
            _hydra_main()
        launch.swept = leftovers.is_sweep()
    except SystemExit as done:  # after --help
        return int(done.code or 0)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from error
    except (OSError, ValueError) as error:
        if leftovers.is_sweep():  # maybe a job's own
            raise
        raise explain_other(error, words) from error
    finally:
        Launch.current = None
        leftovers.remove_sweep()
    if launch.error is not None:
        raise launch.error
    if launch.swept:
        _conclude_sweep(launch)
    return 2 if launch.failed else 0


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


@hydra.main(config_path="pkg://dnicomm.configs", config_name="config", version_base="1.3")
def _hydra_main(config: DictConfig) -> None:
    composed, launch = HydraConfig.get(), Launch.current
    folder = Path(composed.runtime.output_dir)
    swept = composed.mode == RunMode.MULTIRUN
    try:
        _job(config, folder, composed.job.num if swept else None)
    except Exception as error:
        leftovers.remove_empty(folder)
        if launch is None:  # in a process of another launcher: Hydra carries it home
            raise
        if not swept:  # Hydra would print more about it
            launch.error = error
        elif isinstance(error, UserError):
            launch.failed = True
            print(f"dnicomm: #{composed.job.num}: {error}", file=sys.stderr)
        else:
            raise
    except KeyboardInterrupt:
        leftovers.remove_empty(folder)
        raise


def _job(config: DictConfig, folder: Path, number: int | None) -> None:
    try:
        values: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    from dnicomm.commands.jobs import run_job  # torch takes seconds to import

    composed = HydraConfig.get()
    notes = {
        "choices": {g: o for g, o in composed.runtime.choices.items() if g in GROUPS},
        "overrides": plain(composed.overrides.task),
    }
    run_job(values, notes, folder, number)


def _conclude_sweep(launch: Launch) -> None:
    folder = leftovers.Leftovers.target
    if folder is not None and folder.is_dir():
        from dnicomm.commands.sweep import print_sweep

        print_sweep(folder)
    elif not launch.failed:
        raise UserError("this sweep has no runs: each KEY=A,B needs at least one value")
