"""Irregularity as an experiment: what each feedback reaches under which clocks and channels.

The relay (accuracy, learnt from labels) or the signalling game (return, learnt from rewards), run
by the simulator's engine, with one thing varied at a time: the agents' tick rate, how irregular
their ticks are, the delay and the loss of messages. Feedback is synthetic, exact (senders wait
for the end of the episode), mixed or none; each run notes updates and seconds, so that methods can
be compared at equal ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dnicomm.agents import PPO, FeedForward
from dnicomm.bench.checks import choice, just, number, whole
from dnicomm.bench.simulated import Simulated
from dnicomm.core import Adam, CriticUtility, GradientUtility, UtilityModel
from dnicomm.envs import Relay, Signalling
from dnicomm.errors import UserError
from dnicomm.sim import (
    BurstyClock,
    Clock,
    Evaluation,
    JitteredClock,
    PeriodicClock,
    PoissonClock,
    RegulariseDiscretise,
    Simulation,
    UtilitySettings,
    standard_channel,
)
from dnicomm.sim.feedback import MODES


class Played(NamedTuple):
    """What is measured of a world, and what agents in it have if nothing else is said."""

    figure: str
    message_size: int
    lr: float


WORLDS = {"relay": Played("accuracy", 32, 1e-3), "signalling": Played("return", 6, 3e-3)}
CLOCKS = ("periodic", "jittered", "poisson", "bursty")
UTILITIES: dict[str, type[UtilityModel]] = {"gradient": GradientUtility, "critic": CriticUtility}
METHOD_KEYS = ("name", "feedback", "utility", "lr")
GAMMA = 0.8  # a guess is paid at once, or never
BURST = 4.0  # ticks of a burst, in the mean
LOCKED = {"name": "exact", "feedback": "exact", "utility": "none", "lr": 3e-3}


def clock_of(kind: str, rate: float) -> Clock:
    """A clock of about ``rate`` ticks a unit of world time.

    ``periodic`` and ``jittered`` (gaps from half the period to one and a half) round the period
    to whole units.
    """
    period = max(round(1 / rate), 1)
    if kind == "poisson":
        return PoissonClock(rate)
    if kind == "bursty" and rate < 1:
        return BurstyClock(BURST, max(BURST * (1 / rate - 1), 1.0))
    if kind == "jittered":
        return JitteredClock(period, period // 2)
    return PeriodicClock(period)


class Clocks(Simulated):
    """Agents under one clock and channel, with one kind of feedback; an update is an episode.

    Args:
        method: ``name``, ``feedback`` (synthetic, exact, mixed or none), ``utility`` (gradient,
            critic or none) and its rate ``lr``.
        world: ``relay``, or ``signalling``: PPO, whose words are bits.
        num_agents: of the relay, at least 2.
        horizon: world time of an episode.
        clock: ``periodic``, ``jittered``, ``poisson`` or ``bursty``.
        rate: ticks a unit of world time, above 0 and at most 1.
        delay: world time of a message on its way beyond the first unit: fixed, or [low, high].
        drop: share of messages lost.
        width: hidden units of each agent.
        message_size: D; None: 32 in the relay, 6 in the game.
        num_worlds: B.
        lr: of the agents' Adam; None: 1e-3 in the relay, 3e-3 in the game.
        steps: episodes until the end.
        eval_episodes: played in each evaluation.
        seed: of everything random.
        device: where tensors live.

    Raises:
        UserError: if a value is out of range.
    """

    sample = "ticks"

    def __init__(
        self,
        method: Mapping[str, Any],
        world: str,
        num_agents: int,
        horizon: int,
        clock: str,
        rate: float,
        delay: int | Sequence[int],
        drop: float,
        width: int,
        message_size: int | None,
        num_worlds: int,
        lr: float | None,
        steps: int,
        eval_episodes: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._settings = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.steps = whole("steps", steps, 1)
        played = WORLDS[choice("world", world, WORLDS)]
        self.figure = played.figure
        feedback, utility = _method(method)
        rewards = world == "signalling"
        length, units = whole("horizon", horizon, 1), whole("width", width, 1)
        env = (
            Signalling(horizon=length)
            if rewards
            else Relay(num_agents=whole("num_agents", num_agents, 2), horizon=length)
        )
        size = played.message_size if message_size is None else message_size
        step = played.lr if lr is None else lr
        self.simulation = Simulation(
            env=env,
            agent=partial(PPO, width=units, minibatches=4)
            if rewards
            else partial(FeedForward, width=units),
            clock=clock_of(choice("clock", clock, CLOCKS), number("rate", rate, above=0, most=1)),
            channel=standard_channel(_plain(delay), drop),
            message_size=whole("message_size", size, 1),
            discrete=RegulariseDiscretise() if rewards else None,
            utility=utility,
            feedback=feedback,
            optimizer=Adam(number("lr", step, above=0)),
            window=length if rewards else None,
            gamma=GAMMA,
            num_worlds=whole("num_worlds", num_worlds, 1),
            evaluation=Evaluation(episodes=whole("eval_episodes", eval_episodes, 1)),
            seed=whole("seed", seed, 0),
            device=device,
        )

    def step(self) -> None:
        """One episode."""
        self.play()
        self.samples = self.simulation.agent_ticks() * self.simulation.num_worlds

    def evaluate(self) -> dict[str, float]:
        """Score on unseen data; steps that agents' optimisers have taken (``agent_updates``)."""
        record = self.simulation.evaluate()
        agents, channels = record["agents"].values(), record["channels"].values()
        metrics = dict(record["metrics"])
        metrics["agent_updates"] = float(sum(agent["updates"] for agent in agents))
        losses = [agent["loss"] for agent in agents if agent["loss"] is not None]
        if losses:
            metrics["train_loss"] = sum(losses) / len(losses)
        for name in ("cosine", "relative_error", "age"):
            known = [channel[name] for channel in channels if channel[name] is not None]
            if known:
                metrics[name] = sum(known) / len(known)
        return metrics

    def baseline(self) -> Clocks:
        """The same with senders that wait."""
        return Clocks(**self._settings | {"method": LOCKED})

    def moving(self) -> dict[str, Tensor]:
        """Parameters of populations and utility models that learn."""
        found = {}
        heard = self._settings["method"]["feedback"] != "none"
        for population in self.simulation.populations:
            name = population.names[0]
            acts = population.spec.action_size > 0
            if heard or acts:  # who only talks learns from what it is told
                found[name] = population.agents.parameters
            if population.interface is not None:
                found[f"utility.{name}"] = population.interface.utilities.parameters
        return found


def _method(method: Mapping[str, Any]) -> tuple[str, UtilitySettings | None]:
    """Feedback and utility model, checked."""
    just("method", method, METHOD_KEYS)
    feedback = choice("method.feedback", method["feedback"], MODES)
    kind = choice("method.utility", method["utility"], ("none", *UTILITIES))
    rate = number("method.lr", method["lr"], above=0)
    if kind == "none":
        if feedback in ("synthetic", "mixed"):
            raise UserError(f"method.utility=none: feedback={feedback} needs a utility model")
        return feedback, None
    return feedback, UtilitySettings(UTILITIES[kind], Adam(rate))


def _plain(delay: int | Sequence[int]) -> int | list[int]:
    return delay if isinstance(delay, int) else list(delay)
