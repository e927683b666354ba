"""An experiment carried to its end in its run folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from dnicomm.bench.cost import measure, wait
from dnicomm.bench.experiment import Experiment
from dnicomm.runs import RunFolder, versions
from dnicomm.sim.progress_bar import ProgressBar
from dnicomm.sim.recording import is_recorded
from dnicomm.sim.torch_threads import torch_threads

SHOWN_EVERY = 0.2  # seconds between two calls of ``on_progress``


@dataclass
class BenchProgress:
    """Where a run is, for displays."""

    updates: int
    steps: int  # updates at the end
    samples: int
    seconds: float  # of training, evaluations left out
    record: dict[str, Any] | None = None  # the latest evaluation


def run(
    experiment: Experiment,
    fresh: Callable[[], Experiment],
    every: int,
    folder: RunFolder | None = None,
    on_progress: Callable[[BenchProgress], None] | None = None,
    cost: Callable[[Callable[[], Experiment]], dict[str, float]] | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Train to the end, evaluating and keeping a checkpoint on the way; the summary.

    Args:
        experiment: at its start, or restored from a checkpoint of ``folder``.
        fresh: builds the same experiment at its start, to measure what a step costs.
        every: between evaluations; updates, or what the experiment counts instead.
        folder: where metrics, checkpoints and the summary go; None: nowhere.
        on_progress: called a few times a second, and with each evaluation.
        cost: measures what a step costs, from ``fresh``; None: :func:`measure`.
        threads: of torch on the CPU; None: one, or as many as a command has set.
        progress: whether to show on stderr how far it is; None: in a terminal or a notebook, unless
            there is an ``on_progress``.
    """
    shown = False if progress is None and on_progress is not None else progress
    with torch_threads(threads), ProgressBar("update", shown) as bar:

        def tell(progress: BenchProgress) -> None:
            if on_progress is not None:
                on_progress(progress)
            record = progress.record
            bar.update(progress.updates, progress.steps, record and record["metrics"])

        bar.update(experiment.updates, experiment.steps)
        return _run(experiment, fresh, every, folder, tell, cost or measure)


def _run(
    experiment: Experiment,
    fresh: Callable[[], Experiment],
    every: int,
    folder: RunFolder | None,
    on_progress: Callable[[BenchProgress], None],
    cost: Callable[[Callable[[], Experiment]], dict[str, float]],
) -> dict[str, Any]:
    history: list[dict[str, Any]] = [] if folder is None else folder.metrics()
    seconds = history[-1]["seconds"] if history else 0.0
    every = experiment.updates_between(every)

    def tell(seconds: float, record: dict[str, Any] | None = None) -> None:
        place = experiment.updates, experiment.steps, experiment.samples
        on_progress(BenchProgress(*place, seconds, record))

    while experiment.updates < experiment.steps and not experiment.stopped:
        number = experiment.updates // every + 1
        goal = min(number * every, experiment.steps)
        if folder is not None and is_recorded(number, last=goal == experiment.steps):
            experiment.record_before(goal)
        began = told = perf_counter()
        while experiment.updates < goal and not experiment.stopped:
            experiment.step()
            now = perf_counter()
            if now - told >= SHOWN_EVERY:
                tell(seconds + now - began)
                told = now
        wait()
        seconds += perf_counter() - began
        record = {
            "time": experiment.updates,
            "samples": experiment.samples,
            "seconds": seconds,
            "metrics": experiment.evaluate(),
        }
        history.append(record)
        if folder is not None:
            folder.append_metrics(record)
            recorded = experiment.recorded()
            if recorded is not None:
                folder.save_recording(experiment.updates, recorded.columns, recorded.facts)
            folder.save_checkpoint(experiment.updates, experiment.tensors(), experiment.facts())
        tell(seconds, record)
    summary = summarise(experiment, history, seconds)
    summary["metrics"] |= experiment.finish(folder)
    summary["cost"] = cost(fresh)
    if folder is not None:
        folder.write_summary(summary)
    return summary


def summarise(
    experiment: Experiment, history: list[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """What ``summary.json`` holds, cost aside."""
    figure, sign = experiment.figure, 1 if experiment.higher_is_better else -1

    def goodness(record: dict[str, Any]) -> float:
        value = record["metrics"].get(figure)  # null in a run that was resumed: was not finite
        finite = value is not None and math.isfinite(value)
        return sign * value if finite else -math.inf

    best = max(history, key=goodness)
    return {
        "figure": figure,
        "higher_is_better": experiment.higher_is_better,
        "metrics": dict(history[-1]["metrics"]),
        "best": {"time": best["time"], figure: best["metrics"].get(figure)},
        "updates": experiment.updates,
        "samples": experiment.samples,
        "sample": experiment.sample,
        "seconds": seconds,
        "fallbacks": list(experiment.fallbacks),
        "versions": versions(),
    }
