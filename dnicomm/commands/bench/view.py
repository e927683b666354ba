"""How an experiment is shown while it goes on, and at its end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from dnicomm.bench import Experiment
from dnicomm.bench.training import BenchProgress
from dnicomm.commands.display import Place
from dnicomm.commands.table import figure, metrics_table, plain_table, tested


class ExperimentView:
    """Updates, samples and metrics.

    Args:
        experiment: where this process begins.
    """

    time = ("update", "update")
    waiting = "the first update is being made …"

    def __init__(self, experiment: Experiment) -> None:
        self.work = experiment.sample
        self.begun = Place(experiment.updates, experiment.steps, experiment.samples)

    def place(self, progress: BenchProgress) -> Place:
        """Where it is."""
        return Place(progress.updates, progress.steps, progress.samples)

    def words(self, progress: BenchProgress) -> list[str] | None:
        """The latest evaluation in a few words."""
        if progress.record is None:
            return None
        return [f"{n} {figure(value)}" for n, value in chief(progress.record["metrics"]).items()]

    def tables(self, progress: BenchProgress) -> Sequence[RenderableType]:
        """The latest evaluation, a row a metric."""
        if progress.record is None:
            return ()
        return [
            f"evaluated at {progress.record['time']:,}:",
            metrics_table(progress.record["metrics"]),
        ]


def chief(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What was tested, without the figures of single layers, and the training loss."""
    shown = {n: value for n, value in tested(metrics).items() if not re.search(r"_\d+$", n)}
    return shown | {n: value for n, value in metrics.items() if n == "train_loss"}


def cost_table(summary: Mapping[str, Any]) -> Table:
    """What the method cost, beside backpropagation."""
    cost = summary["cost"]
    table = plain_table("cost", ["this method", "backprop", "ratio"])
    for what, own, other in (
        ("ms a step", "step_ms", "backprop_ms"),
        ("MiB in a step, at most", "memory_mib", "backprop_memory_mib"),
    ):
        ratio = cost[own] / cost[other] if cost[own] is not None and cost[other] else None
        table.add_row(what, figure(cost[own]), figure(cost[other]), figure(ratio))
    return table
