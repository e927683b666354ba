"""A simulation: agents, an environment and time, trained and evaluated.

From Python the same as from the command line::

    result = Simulation(env=Relay(num_agents=4), num_worlds=64, agent=FeedForward,
                        clock=PoissonClock(rate=0.5), channel=Delay(0, 2)).run(steps=4_000)
    result.metrics["accuracy"]
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dnicomm.core import Adam, GradientUtility, RowOptimizer
from dnicomm.errors import UserError, nearest
from dnicomm.runs import RunFolder, versions
from dnicomm.sim.agent import Agent
from dnicomm.sim.agent_clocks import choose_clocks
from dnicomm.sim.channel import Channel
from dnicomm.sim.clock import Clock
from dnicomm.sim.closing import ClosesThings
from dnicomm.sim.credit import Discount
from dnicomm.sim.encoding import GumbelSymbol, MessageEncoder, OwnNormalizer
from dnicomm.sim.engine import Engine
from dnicomm.sim.feedback import Feedback, feedback_of
from dnicomm.sim.figures import read_figures, reset_meters
from dnicomm.sim.gap import compare_scores
from dnicomm.sim.memory import MemoryNeed, free_memory
from dnicomm.sim.normalise import MessageNormalizer
from dnicomm.sim.notices import notify_once
from dnicomm.sim.population import AgentSettings, UtilitySettings, build_populations
from dnicomm.sim.profile import Profile
from dnicomm.sim.progress_bar import ProgressBar
from dnicomm.sim.random import generator, global_seed
from dnicomm.sim.recording import Recorder
from dnicomm.sim.records import AgentFactory, Evaluation, Override, Progress, Result
from dnicomm.sim.topology import Complete, EdgeList, Topology, check_edges
from dnicomm.sim.torch_threads import torch_threads
from dnicomm.sim.whole_options import check_whole
from dnicomm.sim.world import Env, Split, World

TRAINING_EPISODES = 2  # of training worlds, played in each evaluation at the same clocks
LONG = 400  # world time from which one such episode is enough


@dataclass
class Simulation(ClosesThings):
    """Agents in an environment, at their own times.

    Args:
        env: the environment's description.
        agent: builds an agent from its spec: an ``Agent`` class, or any callable.
        agents: by name, what some agents have of their own.
        clock: of every agent; None where the environment owns the schedule.
        clocks: by name, instead of ``clock``; or a function of the training worlds that says so.
        channel: what happens to messages.
        topology: who sends to whom; None: the environment's own, else all to all.
        message_size: D.
        normalise: batch-renormalised messages, where there are at least two worlds; ``own``: each
            message by its own mean and deviation.
        discrete: makes messages discrete instead (``GumbelSymbol``, ``RegulariseDiscretise``);
            None: they are vectors.
        share_parameters: whether agents of equal kind are one network: a baseline, for agents are
            independent here.
        utility: the receivers' utility models; None: none (not with synthetic feedback).
        feedback: ``synthetic``, ``none``, ``exact`` or ``mixed``.
        feedback_share: λ of ``mixed``.
        gradient_scale: factor on injected synthetic gradients.
        optimizer: of the agents.
        window: world time between updates; None: the environment's own, else 1.
        exact_window: the same where senders wait; None: an episode.
        gamma: discount of rewards per unit of world time.
        gae_lambda: λ of generalised advantage estimation, per tick of an agent.
        num_worlds: B.
        evaluation: when and how to test.
        seed: of everything random.
        device: where tensors live.
        threads: of torch on the CPU, while it runs; None: one, or as many as a command has set.

    A context manager: at its end, as by :meth:`close` or when the simulation is dropped, the worlds
    are closed, each once.

    Raises:
        UserError: if something does not fit together; says what and where.
    """

    env: Env
    agent: AgentFactory
    agents: Mapping[str, Override] = field(default_factory=dict)
    clock: Clock | None = None
    clocks: Mapping[str, Clock] | Callable[[World], Mapping[str, Clock]] | None = None
    channel: Channel = field(default_factory=Channel)
    topology: Topology | None = None
    message_size: int = 32
    normalise: bool | str = True
    discrete: MessageEncoder | None = None
    share_parameters: bool = False
    utility: UtilitySettings | None = field(
        default_factory=lambda: UtilitySettings(GradientUtility, Adam(3e-3))
    )
    feedback: str = "synthetic"
    feedback_share: float = 0.5
    gradient_scale: float = 1.0
    optimizer: RowOptimizer = field(default_factory=lambda: Adam(1e-3))
    window: int | None = None
    exact_window: int | None = None
    gamma: float = 0.99
    gae_lambda: float = 1.0
    num_worlds: int = 64
    evaluation: Evaluation = field(default_factory=Evaluation)
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        feedback = feedback_of(self.feedback, self.feedback_share)
        if feedback.synthetic_share and self.utility is None:
            raise UserError(f"feedback={self.feedback} needs a utility model, and utility is none")
        with self.opened, torch_threads(self.threads), global_seed(self.seed, "build"):
            self._build(feedback)

    def _build(self, feedback: Feedback) -> None:
        self.world = self._make(self.num_worlds, "train")
        for remark in self.world.remarks:
            notify_once(remark)
        own, names = self.world.agents, self.agents
        for name in names:
            if name not in own:
                raise UserError(f"agents.{name}: there is no such agent.{nearest(name, own)}")
        natural: Topology = Complete() if self.world.edges is None else EdgeList(self.world.edges)
        self.edges = check_edges((self.topology or natural).edges(own), own)
        self._check_cost()
        shared = self.evaluation.shares_worlds
        worlds = self.evaluation.num_worlds or self.env.eval_worlds or self.num_worlds
        worlds = self.num_worlds if shared else worlds
        on_host = self.device.type == "cpu"
        self.world.reset(0, generator(0, "scratch"))  # some tell more once they began
        self.populations = build_populations(
            self.world,
            self.edges,
            {name: self._settings(name) for name in own},
            self.utility,
            self.message_size,
            self._encoder(),
            self.share_parameters,
            self.seed,
            MemoryNeed(free_memory() if on_host else None),
            max(worlds, self.num_worlds),
        )
        clocks = self._clocks()
        self.engine = Engine(
            self.world, self.populations, self.edges, clocks, self.channel, feedback,
            gradient_scale=self.gradient_scale, discount=Discount(self.gamma, self.gae_lambda),
            exact_window=self.exact_window, message_cost=self._message_cost(), seed=self.seed,
        )  # fmt: skip
        tests = self.world if shared else self._make(worlds, "test")
        self.rehearser = Engine(
            self.world, self.populations, self.edges, clocks, self.channel, feedback,
            seed=self.seed, stream="rehearse", learn=False,
        )  # fmt: skip
        self.examiner = Engine(
            tests, self.populations, self.edges, clocks, self.channel, feedback,
            seed=self.seed, stream="eval", learn=False,
        )  # fmt: skip
        self.time = self.episode = 0

    def _make(self, num_worlds: int, split: Split) -> World:
        try:
            world = self.env.make(num_worlds, split, self.device)
        except UserError as error:
            text = str(error) if str(error).startswith("env") else f"env: {error}"
            if split == "test" and "can't be built" in text:
                text += ". Where no more can exist beside the training worlds: eval.worlds=shared"
            raise UserError(text) from error
        return self.opened.add(world, self.env.name)

    def _check_numbers(self) -> None:
        least = {"num_worlds": 1, "message_size": 1, "seed": 0, "window": 1, "exact_window": 1}
        check_whole(self, least | {"threads": 1}, or_null=["window", "exact_window", "threads"])
        self.evaluation.check(self.num_worlds)
        for key in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, key) <= 1:
                raise UserError(f"{key}={getattr(self, key)}: must be from 0 to 1")
        if not 0 <= self.gradient_scale < math.inf:
            raise UserError(f"gradient_scale={self.gradient_scale}: must be at least 0 and finite")

    def _encoder(self) -> Callable[[int], MessageEncoder] | None:
        """What encodes the messages of so many agents."""
        discrete, size, device = self.discrete, self.message_size, self.device
        if isinstance(discrete, GumbelSymbol) and size < 2:
            raise UserError(f"message.size={size}: one of so many symbols says nothing; at least 2")
        if discrete is not None:
            return lambda members: discrete
        if self.normalise == "own":
            if size < 2:
                raise UserError(
                    f"message.size={size}: a number normalised by itself says nothing; at least 2"
                )
            return lambda members: OwnNormalizer()
        if self.normalise and self.num_worlds > 1:
            return lambda members: MessageNormalizer(members, size, device)
        return None

    def _message_cost(self) -> float:
        """What a message takes from its sender's reward."""
        if self.channel.cost_unit == "message":
            return self.channel.cost
        encoder = self.discrete or MessageEncoder()
        return self.channel.cost * encoder.bits(self.message_size, self.channel.number_bits)

    def _check_cost(self) -> None:
        if self.channel.cost and not self.world.rewards:
            raise UserError(
                f"channel.cost={self.channel.cost}: {self.env.name} gives no rewards that a "
                "message could cost"
            )

    def _settings(self, name: str) -> AgentSettings:
        own = self.agents.get(name, Override())
        factory = own.agent or self.agent
        key = own.key if own.key is not None else (id(factory) if own.agent else "agent")
        optimizer = own.optimizer or self.optimizer
        return AgentSettings(factory, key, optimizer, own.window or self.window)

    def _clocks(self) -> dict[str, Clock] | None:
        given = (self.clocks(self.world) if callable(self.clocks) else self.clocks) or {}
        own = {name: o.clock for name, o in self.agents.items() if o.clock is not None}
        return choose_clocks(self.world, self.env.name, self.clock, given, own, self.seed)

    # -- running ------------------------------------------------------------------------------

    def run(
        self,
        steps: int,
        folder: RunFolder | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        profile: Profile | None = None,
        progress: bool | None = None,
    ) -> Result:
        """Train until world time ``steps``, evaluating on the way and at the end.

        Args:
            steps: world time at which to stop; a simulation that was run before goes on.
            folder: where metrics, checkpoints and the summary go; None: nowhere.
            on_progress: called after each episode.
            profile: is told of each episode.
            progress: whether to show on stderr how far it is; None: in a terminal or a notebook,
                unless there is an ``on_progress``.

        Raises:
            UserError: if the environment, an agent or a plug-in does something it must not.
        """
        self.require_open()
        shown = False if progress is None and on_progress is not None else progress
        with torch_threads(self.threads), ProgressBar("world time", shown) as bar:
            return self._run(steps, folder, on_progress, profile, bar)

    def _run(
        self,
        steps: int,
        folder: RunFolder | None,
        on_progress: Callable[[Progress], None] | None,
        profile: Profile | None,
        bar: ProgressBar,
    ) -> Result:
        bar.update(self.time, steps)
        history: list[dict[str, Any]] = [] if folder is None else folder.metrics()
        recorder, every = Recorder(self.engine), self.evaluation.every
        began, before = time.perf_counter(), float(history[-1]["wall_s"]) if history else 0.0
        while self.time < steps:
            due = (self.time // every + 1) * every
            self.engine.progress = self.time / steps
            looked_at = folder is not None and recorder.wanted(self.time, every, steps)
            with (
                recorder.recording(self.time) if looked_at else nullcontext(),
                nullcontext() if profile is None else profile.episode(),
            ):
                self.time += self.engine.play(self.episode, steps - self.time)
            self.episode += 1
            record = None
            wall = before + time.perf_counter() - began
            if self.time >= due or self.time >= steps:
                record = self.evaluate() | {"wall_s": wall}
                history.append(record)
                if folder is not None:
                    folder.append_metrics(record)
                    recorded = recorder.take()
                    if recorded is not None:
                        folder.save_recording(self.time, recorded.columns, recorded.facts)
                    folder.save_checkpoint(self.time, self.tensors(), self.facts())
            if on_progress is not None:
                on_progress(Progress(self.time, steps, self.agent_ticks(), wall, record))
            bar.update(self.time, steps, record and record["metrics"])
        wall = before + time.perf_counter() - began
        summary = self.summary(history, wall)
        if folder is not None:
            folder.write_summary(summary)
        return Result(summary["metrics"], summary, history, None if folder is None else folder.path)

    def evaluate(self, episodes: int | None = None) -> dict[str, Any]:
        """Test on unseen data, and read the channels' and agents' figures since the last time.

        Scores of the training worlds, played without learning, are named ``train_…``;
        ``train_gap`` is how much the first score is higher there.
        """
        self.require_open()
        with torch_threads(self.threads):
            trained = self.rehearser.scores(1 if self.world.horizon > LONG else TRAINING_EPISODES)
            tested = self.examiner.scores(episodes or self.evaluation.episodes)
        record = {"time": self.time, "episode": self.episode} | compare_scores(tested, trained)
        record["warnings"] += self.world.complaints()
        record |= read_figures(self.populations, self.edges, self.world.agents)
        reset_meters(self.populations)
        return record

    def agent_ticks(self) -> int:
        """Ticks of all agents in training so far, each counted once for its B worlds."""
        return sum(int(p.ticks.sum().item()) for p in self.populations)

    def context(self) -> dict[str, str]:
        """What the utility models see beside messages: field by field, and of what kind."""
        fields = {name for p in self.populations for name in p.context}
        known = self.world.context_fields
        return {n: known[n].kind if n in known else "causal" for n in sorted(fields)}

    def summary(self, history: Sequence[Mapping[str, Any]], wall_s: float) -> dict[str, Any]:
        """What ``summary.json`` holds: the last evaluation and what it was measured with."""
        last = history[-1] if history else self.evaluate()
        return {
            "env": self.env.name,
            "num_agents": len(self.world.agents),
            "horizon": self.world.horizon,
            "feedback": self.feedback,
            "utility": None if self.utility is None else _name_of(self.utility.factory),
            "context": self.context(),
            "seed": self.seed,
            "num_worlds": self.num_worlds,
            "steps": self.time,
            "metrics": dict(last["metrics"]),
            "warnings": list(last.get("warnings", ())),
            "channels": last["channels"],
            "agents": last["agents"],
            "agent_ticks": self.agent_ticks(),
            "wall_s": wall_s,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }

    def module(self, name: str) -> Agent:
        """Return agent ``name`` as it is now (:meth:`AgentPopulation.module`).

        Raises:
            UserError: if there is none of that name.
        """
        for population in self.populations:
            if name in population.names:
                return population.module(population.names.index(name))
        raise UserError(f"there is no agent {name!r}.{nearest(name, self.world.agents)}")

    # -- keeping ------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Everything learnt, by name: taken between episodes, when no graph and no mail is left."""
        return {
            f"{i}.{name}": tensor
            for i, population in enumerate(self.populations)
            for name, tensor in population.tensors().items()
        }

    def facts(self) -> dict[str, Any]:
        """Where the run is; all random numbers follow from the seed and this."""
        return {"time": self.time, "episode": self.episode}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            UserError: if it belongs to another configuration.
        """
        for name, own in self.tensors().items():
            if name not in tensors or tensors[name].shape != own.shape:
                raise UserError(f"the checkpoint does not fit the configuration: tensor {name}")
            own.copy_(tensors[name])
        self.time, self.episode = int(facts["time"]), int(facts["episode"])


def _name_of(factory: Any) -> str:
    return getattr(factory, "__name__", None) or getattr(factory, "func", type(factory)).__name__
