"""Taking back the folders that Hydra made for a run that never began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

SWEEP = "multirun.yaml"  # what Hydra itself writes into the folder of a sweep


class Leftovers(Callback):
    """Notes, before Hydra makes folders, which ones were there already."""

    kept: Path | None = None  # the deepest folder on the way to the run that was there before

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        pass

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        pass
