"""Finished runs of ``dnicomm bench`` found in folders, and grouped into settings."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnicomm.errors import UserError
from dnicomm.runs import RunFolder
from dnicomm.runs.settings import APART, Spread, grouped, keys, spread

COST = ("step_ms", "backprop_ms", "relative_time", "memory_mib", "backprop_memory_mib")


@dataclass(frozen=True)
class Run:
    """A finished run."""

    path: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of its experiment."""
        return str(self.config["bench"])

    @property
    def budget(self) -> str:
        """The option that was chosen, "" if none was."""
        return str(self.config.get("choices", {}).get("budget", ""))


@dataclass(frozen=True)
class Setting:
    """Runs that differ by their seed alone."""

    name: str
    budget: str
    keys: Mapping[str, Any]  # dotted, ``method.name`` among them; no seed
    config: Mapping[str, Any]
    runs: Sequence[Run]

    @property
    def method(self) -> str:
        """What its method is called."""
        return str(self.keys.get("method.name", ""))

    def seeds(self) -> list[int]:
        """In order."""
        return sorted(run.config["seed"] for run in self.runs)

    def spread(self, metric: str) -> Spread | None:
        """A metric at the end, over seeds; None where a run has none."""
        return _spread([run.summary["metrics"].get(metric) for run in self.runs])

    def cost(self, key: str) -> float | None:
        """Mean over seeds of a figure of the cost."""
        found = _spread([run.summary["cost"].get(key) for run in self.runs])
        return None if found is None else found.mean

    def mean(self, key: str) -> float:
        """Mean over seeds of ``samples``, ``updates`` or ``seconds``."""
        return statistics.fmean(run.summary[key] for run in self.runs)


def gather(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """All finished runs of ``dnicomm bench`` below some folders; and what was passed over.

    Raises:
        UserError: if a folder does not exist.
    """
    found: list[Run] = []
    passed: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder")
        for path in _run_folders(folder):
            try:
                run = _finished(path)
            except UserError as error:
                passed.append(str(error))
                continue
            if run is not None and run.path.resolve() not in {r.path.resolve() for r in found}:
                found.append(run)
    return found, passed


def settings(runs: Iterable[Run]) -> tuple[list[Setting], list[str]]:
    """Runs grouped by all but their seed; and what was passed over.

    Where a setting was run twice with a seed, the later folder counts.
    """
    groups, passed = grouped(runs, lambda run: [run.name, run.budget])
    found = []
    for group in groups:
        first = group[0]
        config = {key: value for key, value in first.config.items() if key not in APART}
        found.append(Setting(first.name, first.budget, keys(first.config), config, group))
    return found, passed


def varying(settings: Sequence[Setting]) -> list[str]:
    """Keys that differ between settings; those of a method only if they do within one method."""
    found = []
    for key in dict.fromkeys(key for setting in settings for key in setting.keys):
        if key in ("_target_", "method.name"):
            continue
        own = key.startswith("method.")
        values: dict[str, set[str]] = {}
        for setting in settings:
            # a method without the key doesn't differ by it
            if not own or key in setting.keys:
                kind = setting.method if own else ""
                values.setdefault(kind, set()).add(json.dumps(setting.keys.get(key)))
        if any(len(different) > 1 for different in values.values()):
            found.append(key)
    return found


def _spread(values: Sequence[float | None]) -> Spread | None:
    """None where a run has none."""
    return None if None in values else spread(values)


def _run_folders(folder: Path) -> Iterator[Path]:
    for path, below, names in sorted(os.walk(folder)):
        below[:] = sorted(name for name in below if name != "checkpoints")
        if "config.yaml" in names and "run.json" in names:
            yield Path(path)


def _finished(path: Path) -> Run | None:
    """The run in a folder; None: it is no run of ``dnicomm bench``.

    Raises:
        UserError: if it is damaged, or not finished.
    """
    folder = RunFolder.open(path)
    if "bench" not in folder.config:
        return None
    summary = folder.summary()
    if summary is None:
        raise UserError(f"{path}: not finished")
    run = Run(path, folder.config, summary)
    if not (
        isinstance(run.config.get("seed"), int)
        and isinstance(run.config.get("method"), Mapping)
        and isinstance(run.config.get("choices", {}), Mapping)
        and all(isinstance(summary.get(key), Mapping) for key in ("metrics", "cost", "best"))
        and all(isinstance(summary.get(key), int | float) for key in ("samples", "updates"))
        and isinstance(summary.get("seconds"), int | float)
        and isinstance(summary.get("figure"), str)
        and isinstance(summary.get("sample"), str)
    ):
        raise UserError(f"{path} is damaged: its config.yaml or summary.json lacks something")
    return run
