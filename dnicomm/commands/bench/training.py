"""An experiment carried to its end in its run folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from dnicomm.bench.training import run
from dnicomm.commands.at_work import at_work, quoted, threads
from dnicomm.commands.bench.build import check_keys, maker_of
from dnicomm.commands.bench.catalogue import options
from dnicomm.commands.bench.view import ExperimentView, chief, cost_table
from dnicomm.commands.display import display
from dnicomm.commands.table import figure, metrics_table, tested
from dnicomm.commands.work import Summary, Wanted, Work
from dnicomm.runs import Checkpoint, RunFolder
from dnicomm.runs.bounds import as_written

OTHERS = {  # methods that the one at hand is measured by
    "none": "no feedback: what synthetic gradients have to beat",
    "auxiliary": "the same head learning from labels alone: what they have to beat",
    "backprop": "true gradients: what they are measured by",
    "bptt": "no gradient from later windows: what they have to beat",
    "locked": "true gradients: what they are measured by",
}


class ExperimentWork(Work):
    """One of the paper's experiments."""

    time = "update"
    recorded = ("metrics", "seconds", "samples")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.config = check_keys(values)
        self.name = values.get("bench", "")
        self.fresh = maker_of(self.config)
        with threads(self.config["threads"]):
            self.experiment = self.fresh()

    def restore(self, checkpoint: Checkpoint) -> None:
        with as_written(f"the checkpoint of {self.time} {checkpoint.time}"):
            self.experiment.restore(checkpoint.tensors, checkpoint.facts)
            updates, samples = self.experiment.updates, self.experiment.samples
            if updates != checkpoint.time or not isinstance(samples, int):
                raise ValueError(f"updates {updates}, samples {samples}")

    def carry_on(self, folder: RunFolder, console: Console) -> Summary:
        console.print(_title(folder.config, self.experiment.steps), soft_wrap=True)
        for line in self.experiment.fallbacks:
            console.print(line, soft_wrap=True)
        view = ExperimentView(self.experiment)
        with at_work(folder.path, self.config["threads"]), display(console, view) as shown:
            every = self.config["eval"]["every"]
            return run(self.experiment, self.fresh, every, folder, shown.update, progress=False)

    def test(self, checkpoint: Checkpoint, wanted: Wanted) -> dict[str, Any]:
        self.restore(checkpoint)
        with threads(self.config["threads"]):
            metrics = tested(self.experiment.evaluate())
        return {"bench": self.name, "time": checkpoint.time, "metrics": metrics}

    def close(self) -> None:
        self.experiment.close()

    @staticmethod
    def show_test(console: Console, found: Mapping[str, Any]) -> None:
        console.print(f"{found['bench']}, trained for {found['time']:,} updates", soft_wrap=True)
        console.print(metrics_table(found["metrics"]))

    @staticmethod
    def words(summary: Summary) -> list[str]:
        return [
            f"{name} {figure(value)}" for name, value in ExperimentWork.figures(summary).items()
        ]

    @staticmethod
    def figures(summary: Summary) -> dict[str, Any]:
        relative = summary["cost"]["relative_time"]
        return {**chief(summary["metrics"]), "seconds": summary["seconds"], "rel. time": relative}

    @staticmethod
    def show(console: Console, summary: Summary) -> None:
        console.print()
        console.print(metrics_table(summary["metrics"]))
        console.print()
        console.print(cost_table(summary))
        best, name = summary["best"], summary["figure"]
        console.print(
            f"\nbest {name} {figure(best[name])} after {best['time']:,} of {summary['updates']:,} "
            f"updates ({summary['samples']:,} {summary['sample']}, {summary['seconds']:.0f} s)",
            soft_wrap=True,
        )

    @staticmethod
    def next(
        folder: Path, summary: Summary, config: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        name, method = str(config["bench"]), config.get("choices", {}).get("method")
        kept = [shlex.quote(override) for override in config.get("overrides", ())
                if not override.startswith(("method=", "method.", "seed="))]  # fmt: skip
        command = " ".join(["dnicomm bench", name, *kept])
        there = [option.name for option in options(name, "method")]
        for other, why in OTHERS.items():
            if other in there and other != method:
                yield f"{command} method={other}", why
        yield f"{command} -m method={method} seed=0,1,2", "how much of it is luck"
        yield f"dnicomm bench table {quoted(folder.parent)}", "beside the published values"


def _title(config: Mapping[str, Any], steps: int) -> str:
    budget = config.get("choices", {}).get("budget")
    parts = [str(config["bench"]), f"method {config['method'].get('name')}"]
    parts += [f"budget {budget}"] if budget else []
    parts += [f"{steps:,} update{'s' * (steps != 1)}", f"seed {config['seed']}", config["device"]]
    return ", ".join(parts)
