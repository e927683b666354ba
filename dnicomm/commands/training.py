"""A simulation carried to its end in its run folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from dnicomm.commands.at_work import at_work, threads
from dnicomm.commands.build import build
from dnicomm.commands.communication_table import print_communication
from dnicomm.commands.display import display
from dnicomm.commands.keys import check_keys
from dnicomm.commands.simulation_view import SimulationView
from dnicomm.commands.table import (
    headline,
    metrics_table,
    print_result,
    profile_table,
    tested,
)
from dnicomm.commands.work import Summary, Wanted, Work
from dnicomm.errors import UserError
from dnicomm.runs import Checkpoint, RunFolder
from dnicomm.runs.atomic import write_text
from dnicomm.runs.bounds import as_written
from dnicomm.sim import Simulation
from dnicomm.sim.communication import FAMILIES, Asked, evaluate_communication
from dnicomm.sim.onlooking import Onlooking
from dnicomm.sim.profile import Profile

PROFILE, TRACE = "profile.json", "profile_trace.json"  # in the run folder


class SimulationWork(Work):
    """Agents in an environment, in time."""

    time = "world time"
    recorded = ("metrics", "channels", "agents", "wall_s")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.config = check_keys(values)
        self.simulation = build(self.config)

    def restore(self, checkpoint: Checkpoint) -> None:
        with as_written(f"the checkpoint of {self.time} {checkpoint.time}"):
            self.simulation.restore(checkpoint.tensors, checkpoint.facts)
            time, episode = self.simulation.time, self.simulation.episode
            if time != checkpoint.time or not 0 <= episode <= time:
                raise ValueError(f"time {time}, episode {episode}")

    def carry_on(self, folder: RunFolder, console: Console) -> Summary:
        console.print(_title(self.simulation, self.config), soft_wrap=True)
        view = SimulationView(self.simulation.time, self.simulation.agent_ticks())
        profile = Profile(folder.path / TRACE) if self.config["profile"] else None
        with at_work(folder.path, self.config["threads"]), display(console, view) as shown:
            steps = self.config["steps"]
            result = self.simulation.run(steps, folder, shown.update, profile, progress=False)
        if profile is not None:
            figures = profile.figures()
            write_text(folder.path / PROFILE, json.dumps(figures, indent=1) + "\n")
            console.print()
            console.print(profile_table(figures))
        return result.summary

    def test(self, checkpoint: Checkpoint, wanted: Wanted) -> dict[str, Any]:
        if not (wanted.episodes or self.config["eval"]["episodes"]):
            raise UserError("eval.episodes=0: this run has no test; ask for one with --episodes=1")
        self.restore(checkpoint)
        simulation, measures = self.simulation, None
        families = FAMILIES if wanted.metrics is None else wanted.metrics
        asked = Asked(families, wanted.channels)
        with threads(self.config["threads"]), ExitStack() as onlooking:
            if wanted.onlooker is not None:
                onlooking.enter_context(
                    Onlooking(simulation.examiner, wanted.world, wanted.onlooker)
                )
            if families:
                record, measures = evaluate_communication(simulation, wanted.episodes, asked)
            else:
                record = simulation.evaluate(wanted.episodes)
        return {
            "env": simulation.env.name,
            "time": checkpoint.time,
            "episodes": wanted.episodes or self.config["eval"]["episodes"],
            "worlds": simulation.examiner.world.num_worlds,
            "metrics": record["metrics"],
            "warnings": record["warnings"],
            "communication": measures,
        }

    def close(self) -> None:
        self.simulation.close()

    @staticmethod
    def show_test(console: Console, found: Mapping[str, Any]) -> None:
        played, worlds = found["episodes"], found["worlds"]
        console.print(
            f"{found['env']}, trained to world time {found['time']}; "
            f"{played} episode{'s' * (played > 1)} in {worlds} world{'s' * (worlds > 1)}",
            soft_wrap=True,
        )
        console.print(metrics_table(found["metrics"]))
        for line in found["warnings"]:
            console.print(line, style="bold yellow", soft_wrap=True)
        if found["communication"] is not None:
            print_communication(console, found["communication"])

    @staticmethod
    def words(summary: Summary) -> list[str]:
        return [*headline(summary), f"{summary['wall_s']:.0f} s"]

    @staticmethod
    def figures(summary: Summary) -> dict[str, Any]:
        return tested(summary["metrics"])

    @staticmethod
    def show(console: Console, summary: Summary) -> None:
        print_result(console, summary)

    @staticmethod
    def next(
        folder: Path, summary: Summary, config: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        others = {
            "synthetic": "senders learn from utility models",
            "none": "senders learn nothing: what feedback has to beat",
            "exact": "senders wait for true gradients: what feedback is measured by",
        }
        kept = [shlex.quote(override) for override in config.get("overrides", ())
                if not override.startswith("feedback=")]  # fmt: skip
        for mode, why in others.items() if summary["channels"] else ():
            if mode != summary["feedback"]:
                yield " ".join(["dnicomm run", *kept, f"feedback={mode}"]), why


def _title(simulation: Simulation, config: Mapping[str, Any]) -> str:
    agents, which = simulation.world.agents, config["env"].get("id")
    worlds = simulation.num_worlds
    return ", ".join(
        [
            f"{simulation.env.name} {which}" if which else simulation.env.name,
            f"{len(agents)} agent{'s' * (len(agents) != 1)}",
            f"{worlds} world{'s' * (worlds != 1)}",
            f"feedback {simulation.feedback}",
            f"seed {simulation.seed}",
            str(simulation.device),
        ]
    )
