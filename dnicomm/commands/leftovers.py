"""Taking back the folders that Hydra makes for a run that never began."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

SWEEP = "multirun.yaml"  # what Hydra itself writes into the folder of a sweep


class Leftovers(Callback):
    """Notes, before Hydra makes any folder, which ones are there already."""

    target: Path | None = None  # the folder of this run or sweep
    kept: Path | None = None  # the deepest folder on the way to it that was there before
    sweep = False

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._note(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._note(config, "hydra.sweep.dir")
        Leftovers.sweep = True

    def _note(self, config: DictConfig, key: str) -> None:
        before = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(config)  # the name may be made of what it says
        try:
            target = Path(str(OmegaConf.select(config, key))).absolute()
        except OmegaConfBaseException:  # Hydra will say so itself
            return
        finally:
            HydraConfig.instance().cfg = before
        Leftovers.target = target
        Leftovers.kept = next(path for path in [target, *target.parents] if path.exists())


def forget() -> None:
    """Begin anew; nothing is noted."""
    Leftovers.target = Leftovers.kept = None
    Leftovers.sweep = False


def is_sweep() -> bool:
    """Whether a sweep was begun."""
    return Leftovers.sweep


def remove_empty(folder: Path) -> None:
    """Remove the folder if it is empty and was not there before, and those above it likewise."""
    kept = Leftovers.kept
    while kept is not None and kept in folder.parents:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:  # somebody's files are in it
            return
        folder = folder.parent


def remove_sweep() -> None:
    """The same for a sweep, of which no job has left anything."""
    folder = Leftovers.target
    if folder is None or not Leftovers.sweep or not folder.is_dir():
        return
    if {path.name for path in folder.iterdir()} <= {SWEEP}:
        with contextlib.suppress(OSError):
            (folder / SWEEP).unlink()
        remove_empty(folder)
