"""Runs side by side: found in folders, grouped into settings, and what tells settings apart."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnicomm.errors import UserError, nearest
from dnicomm.report.markup import figure
from dnicomm.report.reading import RunView, names, number, part, read_run, series
from dnicomm.runs.settings import Spread, grouped, keys, spread

INSIDE = ("checkpoints", "recordings", "tensorboard", "wandb")  # of a run folder
LOWER_IS_BETTER = ("error", "loss", "bits", "perplexity", "samples_to")  # in a metric's name


@dataclass(frozen=True)
class Setting:
    """Runs that differ by their seeds alone.

    Args:
        keys: the configuration with dotted keys, without what makes no other setting.
        choices: options chosen by group, and the experiment as ``bench``.
        runs: in the order of their seeds.
        label: what tells it from the others, in a few words.
    """

    keys: Mapping[str, Any]
    choices: Mapping[str, Any]
    runs: Sequence[RunView]
    label: str = ""

    def seeds(self) -> list[int]:
        """Those that are known, in order."""
        return [run.config["seed"] for run in self.runs if isinstance(run.config.get("seed"), int)]

    def results(self, metric: str | None) -> list[float]:
        """What each run reached so far, where there is something."""
        found = [number(part(run.last, "metrics").get(metric or "")) for run in self.runs]
        return [value for value in found if value is not None]

    def spread(self, metric: str | None) -> Spread | None:
        """The same over seeds."""
        return spread(self.results(metric))

    def time(self) -> float | None:
        """Up to which all of its runs have come (world time or updates); None: nowhere."""
        times = [number(run.metrics[-1].get("time")) for run in self.runs if run.metrics]
        return min((time for time in times if time is not None), default=None)

    def state(self) -> str:
        """``ended``; or how many of its runs have."""
        ended = sum(run.state == "ended" for run in self.runs)
        return "ended" if ended == len(self.runs) else f"{ended} of {len(self.runs)} ended"


@dataclass(frozen=True)
class Comparison:
    """Settings, the best one first.

    Args:
        metric: that they are compared by; None: nothing was measured.
        lower_is_better: whether a small one is.
        columns: what differs: groups whose options do, and keys.
        missing: what can't be shown, and why, a sentence each.
    """

    settings: Sequence[Setting]
    metric: str | None
    lower_is_better: bool
    columns: Sequence[str]
    missing: Sequence[str]

    def cells(self, setting: Setting) -> list[str]:
        """A setting's values of the columns; "" where it has no such key."""
        return [written(_value(setting, column)) for column in self.columns]

    @property
    def over(self) -> str:
        """What curves run over."""
        return "updates" if all(r.is_bench for s in self.settings for r in s.runs) else "world time"


def compare(folders: Iterable[Path], metric: str | None = None) -> Comparison:
    """What there is to compare below some folders.

    Args:
        metric: one of the runs'; None: the figure that sums most of them up.

    Raises:
        UserError: if a folder does not exist, there is no run, or none has that metric.
    """
    runs, missing = _found(list(folders))
    settings, repeated = _settings(runs)
    columns = varying(settings)
    known = sorted({name for run in runs for name in (*names(run, "metrics"),
                                                      *part(run.last, "metrics"))})  # fmt: skip
    if metric is not None and metric not in known:
        raise UserError(f"{metric}: no run has such a metric.{nearest(metric, known)}")
    metric = metric or _usual([run.figure for run in runs])
    lower = metric is not None and _lower_is_better(metric, runs)
    labelled = _labelled(settings, columns)
    labelled.sort(key=lambda setting: _place(setting.spread(metric), lower))
    return Comparison(labelled, metric, lower, columns, [*missing, *repeated])


def varying(settings: Sequence[Setting]) -> list[str]:
    """Groups whose options differ; keys that do, those of such a group only within one option."""
    known = [setting for setting in settings if setting.keys]
    groups = list(dict.fromkeys(group for setting in known for group in setting.choices))
    differing = [g for g in groups if len({written(s.choices.get(g)) for s in known}) > 1]
    found = []
    for key in dict.fromkeys(key for setting in known for key in setting.keys):
        group = key.partition(".")[0]
        values: dict[str, set[str]] = {}
        for setting in known:
            if key in setting.keys:  # an option without the key doesn't differ by it
                option = written(setting.choices.get(group)) if group in differing else ""
                values.setdefault(option, set()).add(json.dumps(setting.keys[key], default=str))
        if any(len(different) > 1 for different in values.values()):
            found.append(key)
    return [*differing, *found]


def written(value: Any) -> str:
    """A value of a configuration as one would type it."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, default=str)


def curve(setting: Setting, name: str, where: str = "metrics") -> dict[str, list[Any]]:
    """A figure over time: the mean over seeds, and a band where there are several.

    Args:
        name: of a metric; or of a figure of all ``channels`` or ``agents``, whose mean it is then.

    The band is the 95 % confidence interval of the mean; of two seeds, from one to the other. A
    time counts if all seeds that came so far were evaluated then.
    """
    curves = [c for run in setting.runs if (c := _over_time(run, name, where))]
    times = sorted({time for c in curves for time in c})
    found: dict[str, list[Any]] = {"x": [], "y": [], "low": [], "high": []}
    for time in times:
        there = [c for c in curves if max(c) >= time]
        if any(time not in c for c in there):
            continue
        values = [value for c in there if (value := c[time]) is not None]
        at = spread(values)
        low, high = _band(values, at)
        mean = None if at is None else at.mean
        for key, value in zip(found, (time, mean, low, high), strict=True):
            found[key].append(value)
    if len(curves) < 2:
        del found["low"], found["high"]
    return found


def _over_time(run: RunView, name: str, where: str) -> dict[float, float | None]:
    """What a run was measured to be at each time."""
    if where == "metrics":
        return dict(zip(*series(run, where, name), strict=True))
    every = [series(run, where, of, name) for of in names(run, where)]
    at: dict[float, list[float]] = {}
    for times, values in every:
        for time, value in zip(times, values, strict=True):
            at.setdefault(time, []).extend([] if value is None else [value])
    return {time: sum(there) / len(there) if there else None for time, there in at.items()}


def _band(values: Sequence[float], at: Spread | None) -> tuple[float | None, float | None]:
    if at is None:
        return None, None
    return at.interval() or (min(values), max(values))


def _found(folders: Sequence[Path]) -> tuple[list[RunView], list[str]]:
    views: dict[Path, RunView] = {}
    missing = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder")
        for path in _run_folders(folder):
            if path.resolve() not in views:
                view = views[path.resolve()] = read_run(path, episodes=False)
                missing += [
                    line if str(path) in line else f"{path}: {line}" for line in view.missing
                ]
    if not views:
        raise UserError(f"{', '.join(map(str, folders))}: there is no run in there")
    return list(views.values()), missing


def _run_folders(folder: Path) -> Iterator[Path]:
    """A folder with what only a run has; also if the rest is damaged."""
    for path, below, files in os.walk(folder):
        below[:] = sorted((name for name in below if name not in INSIDE), key=_numbered)
        if {"metrics.jsonl", "run.json"} & {*files}:
            yield Path(path)


def _numbered(name: str) -> tuple[int, str]:
    """Jobs of a sweep by their numbers."""
    first = name.partition("-")[0]
    return (int(first) if first.isdigit() else -1, name)


def _settings(runs: Iterable[RunView]) -> tuple[list[Setting], list[str]]:
    """Runs grouped by all but their seed, and what was run twice."""
    groups, repeated = grouped(runs, lambda run: run.choice("bench"))
    found = []
    for group in groups:
        first = group[0]
        choices = {**part(first.config, "choices")}
        if first.is_bench:
            choices["bench"] = first.choice("bench")
        found.append(Setting(keys(first.config), choices, group))
    return found, [f"{line}." for line in repeated]


def _labelled(settings: Sequence[Setting], columns: Sequence[str]) -> list[Setting]:
    found, taken = [], set()
    last = [key.rpartition(".")[2] for key in columns]
    short = [end if last.count(end) == 1 else key for end, key in zip(last, columns, strict=True)]
    for setting in settings:
        values = [_value(setting, key) for key in columns]
        words = [_word(key, value) for key, value in zip(short, values, strict=True)]
        label = " ".join(word for word in words if word) or "all runs"
        if not setting.keys or label in taken:
            label = setting.runs[0].path.absolute().name
        taken.add(label)
        found.append(Setting(setting.keys, setting.choices, setting.runs, label))
    return found


def _word(key: str, value: Any) -> str:
    """``synthetic`` speaks for itself; ``feedback=none`` and ``rate=0.5`` need their key."""
    if value is None:
        return ""
    alone = isinstance(value, str) and value.isidentifier() and value not in ("none", "custom")
    return written(value) if alone else f"{key}={written(value)}"


def _value(setting: Setting, column: str) -> Any:
    return setting.choices.get(column, setting.keys.get(column))


def _usual(figures: Sequence[str | None]) -> str | None:
    there = [name for name in figures if name is not None]
    return max(dict.fromkeys(there), key=there.count, default=None)


def _lower_is_better(metric: str, runs: Sequence[RunView]) -> bool:
    for run in runs:
        if run.summary.get("figure") == metric and "higher_is_better" in run.summary:
            return not run.summary["higher_is_better"]
    return any(word in metric for word in LOWER_IS_BETTER)


def _place(reached: Spread | None, lower_is_better: bool) -> tuple[bool, float]:
    """The best first, those without a result last."""
    if reached is None:
        return True, 0.0
    return False, reached.mean if lower_is_better else -reached.mean


def shown(reached: Spread | None) -> str:
    """``0.941 ± 0.012 (3)``."""
    if reached is None:
        return figure(None)
    plus = "" if reached.deviation is None else f" ± {figure(reached.deviation)}"
    return f"{figure(reached.mean)}{plus} ({reached.count})"
