"""Two networks at two time scales: one counts what it sees, the other what it never saw.

The counting system (``dnicomm.envs.Counting``) run by the simulator's engine (paper, section 3.2).
Network A sees a digit at each step; it says after each block of T how many of them were odd, and
sends a message. Network B hears one message a block and says after T blocks how many threes there
were. Locked, both update once in T² digits; decoupled, A updates after each block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from dnicomm.agents import Recurrent
from dnicomm.bench.checks import choice, flag, just, number, sizes, whole
from dnicomm.bench.simulated import Simulated
from dnicomm.core import (
    Adam,
    CriticUtility,
    GradientUtility,
    LocalUtility,
    Population,
    UtilityModel,
)
from dnicomm.core.least_squares import LeastSquaresUtility
from dnicomm.envs import Counting
from dnicomm.errors import UserError
from dnicomm.runs import RunFolder
from dnicomm.sim import Evaluation, Simulation, UtilitySettings
from dnicomm.sim.feedback import Feedback

FEEDBACK = {"synthetic": "synthetic", "exact": "exact", "exact_scaled": "exact", "none": "none"}
UTILITIES: dict[str, type[UtilityModel]] = {
    "gradient": GradientUtility,
    "least_squares": LeastSquaresUtility,
    "critic": CriticUtility,
    "local": LocalUtility,
}
BASIC_KEYS = ("name", "feedback", "utility")
STEPPED, SOLVED = ("context", "hidden", "lr"), ("context", "memory", "ridge")
OWN_KEYS = {
    "none": (),
    "gradient": STEPPED,
    "least_squares": SOLVED,
    "critic": (*STEPPED, "label"),
    "local": (*STEPPED, "label"),
}
LOCKED = {"name": "locked", "feedback": "exact", "utility": "none"}

GOALS = {"80": 0.8, "90": 0.9}  # of B's answers
HELD = 3  # evaluations in a row whose mean counts as held
NEAR = 0.01  # A is at its final accuracy from here on


class TwoNetworks(Simulated):
    """The counting pair in one condition; an update is an episode, of T blocks of T digits.

    Args:
        method: ``name``, ``feedback`` (synthetic, exact, exact_scaled or none) and ``utility``
            (gradient, least_squares, critic, local or none); where there is one, what it sees
            (``context``), its ``hidden`` layers, its rate ``lr`` and (critic, local) the fact that
            is its ``label``, or ``memory`` and ``ridge`` of least squares.
        dataset: ``digits`` or ``mnist``.
        block: T, digits in a block.
        blocks: blocks in an episode; None: T.
        irregular: whether each block's length is drawn anew, from T - T/2 to T + T/2.
        noise: standard deviation of noise on the pixels (0 to 1) of training digits.
        width: hidden units and state of each network.
        message_size: D.
        normalise: whether messages are batch-normalised.
        gradient_scale: factor on synthetic gradients (or scaled exact ones) where A takes them.
        num_worlds: streams of digits side by side, at least 1.
        lr: of both networks' Adam.
        decay: whether the rate falls to zero by the end.
        steps: episodes until the end.
        eval_episodes: played in each evaluation, in 512 worlds.
        seed: of everything random.
        device: where tensors live.

    Raises:
        UserError: if a value is out of range, or the method does not fit.
    """

    sample = "digits"
    figure = "accuracy"

    def __init__(
        self,
        method: Mapping[str, Any],
        dataset: str,
        block: int,
        blocks: int | None,
        irregular: bool,
        noise: float,
        width: int,
        message_size: int,
        normalise: bool,
        gradient_scale: float,
        num_worlds: int,
        lr: float,
        decay: bool,
        steps: int,
        eval_episodes: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._settings = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.steps = whole("steps", steps, 1)
        self.num_worlds = whole("num_worlds", num_worlds, 1)
        env = Counting(
            block=whole("block", block, 1),
            blocks=None if blocks is None else whole("blocks", blocks, 1),
            irregular=flag("irregular", irregular),
            dataset=choice("dataset", dataset, ("digits", "mnist")),
            noise=number("noise", noise, 0),
        )
        utility = _utility(method)
        self.feedback = choice("method.feedback", method["feedback"], FEEDBACK)
        scaled = self.feedback == "exact_scaled"
        scale = number("gradient_scale", gradient_scale, 0, above=0 if scaled else None)
        optimizer = Adam(number("lr", lr, above=0), decay=flag("decay", decay))
        self.simulation = Simulation(
            env=env,
            agent=partial(Recurrent, width=whole("width", width, 1)),
            message_size=whole("message_size", message_size, 1),
            normalise=flag("normalise", normalise),
            utility=utility,
            feedback=FEEDBACK[self.feedback],
            gradient_scale=scale,
            optimizer=optimizer,
            num_worlds=num_worlds,
            evaluation=Evaluation(episodes=whole("eval_episodes", eval_episodes, 1)),
            seed=whole("seed", seed, 0),
            device=device,
        )
        if scaled:
            self.simulation.engine.feedback = Feedback(true_share=scale, synthetic_share=0.0)

    def step(self) -> None:
        """One episode: B updates once, A once (locked) or after each block."""
        time = self.play()
        self.samples += (time - 1) * self.num_worlds  # the last unit of time shows no digit

    def evaluate(self) -> dict[str, float]:
        """Accuracy of B (``accuracy``) and A (``accuracy_a``) on digits never trained on."""
        record = self.simulation.evaluate()
        (channel,) = record["channels"].values()
        norms = channel["synthetic_norm"], channel["target_norm"]
        metrics = record["metrics"] | {
            "train_loss": record["agents"]["b_0"]["loss"],
            "train_loss_a": record["agents"]["a_0"]["loss"],
            "cosine": channel["cosine"],
            "relative_error": channel["relative_error"],
            "norm_ratio": norms[0] / norms[1] if None not in norms else None,
        }
        return {name: value for name, value in metrics.items() if value is not None}

    def baseline(self) -> TwoNetworks:
        """The locked pair."""
        return TwoNetworks(**self._settings | {"method": LOCKED})

    def moving(self) -> dict[str, Tensor]:
        """Parameters of both networks and the utility model; not of heads that learn nothing."""
        found = {}
        for population in self.simulation.populations:
            name = population.names[0]
            heard = name == "a_0" and self.feedback != "none"
            for key, value in _parameters(name, population.agents).items():
                if heard or not key.startswith(f"{name}.message."):
                    found[key] = value
            if population.interface is not None:
                found |= _parameters("utility", population.interface.utilities)
        return found

    def finish(self, folder: RunFolder | None) -> dict[str, float]:
        """After how many digits the networks were there; see :func:`milestones`."""
        return {} if folder is None else milestones(folder.metrics())


def milestones(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Digits shown when B and A got where they should; what was never reached is left out.

    ``samples_to_90``: B's accuracy was 90 % for the first time; ``samples_to_90_held``: its mean
    over three evaluations in a row was; the same of 80 %. ``samples_a_final``: A's accuracy was
    within a point of its mean over the last three evaluations. ``accuracy_held`` and
    ``accuracy_a_held`` are the means over the last three.
    """
    shown = [record["samples"] for record in history]
    b = [record["metrics"]["accuracy"] for record in history]
    a = [record["metrics"]["accuracy_a"] for record in history]
    held = [fmean(b[i - HELD + 1 : i + 1]) if i >= HELD - 1 else 0.0 for i in range(len(b))]
    final, final_a = fmean(b[-HELD:]), fmean(a[-HELD:])
    reached = {"samples_a_final": _first(shown, a, final_a - NEAR)}
    for name, goal in GOALS.items():
        reached[f"samples_to_{name}"] = _first(shown, b, goal)
        reached[f"samples_to_{name}_held"] = _first(shown, held, goal)
    found = {name: float(value) for name, value in reached.items() if value is not None}
    return found | {"accuracy_held": final, "accuracy_a_held": final_a}


def _first(shown: Sequence[int], values: Sequence[float], level: float) -> int | None:
    return next((n for n, value in zip(shown, values, strict=True) if value >= level), None)


def _parameters(prefix: str, population: Population) -> dict[str, Tensor]:
    """Parameters of a population of one, by name: views of what it learns."""
    named = list(population.template.named_parameters())
    parts = population.parameters[0].split([value.numel() for _, value in named])
    return {
        f"{prefix}.{name}": part.view(value.shape)
        for (name, value), part in zip(named, parts, strict=True)
    }


def _utility(method: Mapping[str, Any]) -> UtilitySettings | None:
    """The utility model of B, checked."""
    kind = choice("method.utility", method.get("utility"), ("none", *UTILITIES))
    known = (*BASIC_KEYS, *OWN_KEYS[kind])
    just("method", method, known)
    if kind == "none":
        return None
    context = method["context"]
    if isinstance(context, str) or not isinstance(context, Sequence):
        raise UserError(f"method.context={context}: must be a list of facts, [] for none")
    if kind == "least_squares":
        memory = number("method.memory", method["memory"], 1)
        ridge = number("method.ridge", method["ridge"], above=0)
        solved = partial(LeastSquaresUtility, memory=memory, ridge=ridge)
        return UtilitySettings(solved, Adam(), list(context))  # which has no steps to take
    model = partial(UTILITIES[kind], hidden=sizes("method.hidden", method["hidden"]))  # type: ignore[call-arg]
    optimizer = Adam(number("method.lr", method["lr"], above=0))
    return UtilitySettings(model, optimizer, list(context), method.get("label"))
