"""Forced messages: a listener's tick computed again with another message, all else as it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from dnicomm.communication import (
    Centres,
    as_symbols,
    causal_influence,
    gaussian_causal_influence,
    gaussian_kl_divergence,
    gaussian_l1_distance,
    kl_divergence,
    l1_distance,
)
from dnicomm.sim.agent import Inbox, TickOutput
from dnicomm.sim.listening import MOST_NUMBERS, Columns, Overheard, response_of
from dnicomm.sim.random import torch_seed

FORCED = 16  # messages put into each situation, at most
CENTRES = 16  # that stand for what a listener does, where that is a vector without probability
ROWS = 4096  # computed at once

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """Messages to force, ``[K, D]``, and how likely each is, ``[K]``."""

    messages: Values
    weights: Values

    @staticmethod
    def of(
        messages: Values,
        rng: np.random.Generator,
        most: int = FORCED,
        groups: NDArray[np.int64] | None = None,
    ) -> Pool:
        """From messages ``[n, D]`` that were heard.

        All that there are with their frequencies, where they are few enough; else ``most`` of them
        drawn at random, equally likely.
        """
        found = as_symbols(messages, most, groups)
        if found is not None:
            count = np.bincount(found[0])
            return Pool(found[1], count / count.sum())
        size = min(most, len(messages))
        chosen = rng.choice(len(messages), size, replace=False)
        return Pool(messages[chosen], np.full(size, 1 / size))

    @property
    def entropy(self) -> float:
        """In nats: the most that causal influence can be."""
        return float((self.weights * np.log(1 / self.weights)).sum())


@dataclass(frozen=True)
class Influence:
    """What messages do to a listener, in each of its situations ``[S]``; information in nats."""

    age: Values  # of the message that was there, world time
    causal: Values  # of the pool's messages
    l1_zeroed: Values  # from 0 to 2
    l1_shuffled: Values
    kl_zeroed: Values | None  # None where policies are points
    kl_shuffled: Values | None


def forced_ticks(channel: Overheard, situations: Columns, messages: Tensor) -> TickOutput:
    """What the listener would have done in each situation with each message.

    Its state, its observation and what it has of other channels are as they were, and so is the age
    of the message.

    Args:
        situations: ``S`` of the channel.
        messages: ``[S, K, D]`` in place of the channel's own.

    Returns:
        Action, message and deviation with ``[S, K, …]`` in place of ``[B, …]``.
    """
    device = messages.device
    agent = channel.listener.agents.template.eval()
    states = [np.asarray(situations[f"state.{i}"])
              for i in range(sum(name.startswith("state.") for name in situations))]  # fmt: skip
    spec = pytree.tree_structure(agent.initial_state(1))  # type: ignore[operator]
    count, forced = messages.shape[:2]
    largest = max(channel.listener.spec.input_size, 1)
    step = max(min(ROWS, MOST_NUMBERS // largest) // forced, 1)
    member = torch.tensor([channel.listener_row], device=device)
    parts = []
    for start in range(0, count, step):
        chosen = slice(start, start + step)

        def repeated(values: NDArray, chosen: slice = chosen) -> Tensor:  # [1, s * K, …]
            there = torch.from_numpy(values[chosen]).to(device)
            return there.repeat_interleave(forced, 0)[None]

        inbox = Inbox(*(repeated(situations[name]) for name in ("messages", "mask", "age")))
        inbox.messages[0, :, channel.slot] = messages[chosen].flatten(0, 1)
        state = pytree.tree_unflatten([repeated(leaf) for leaf in states], spec)
        rows = channel.listener.gather(member, requires_grad=False)
        with torch.no_grad(), torch_seed(0, "forced"):
            output = channel.listener.agents.call(
                rows, "tick", repeated(situations["observation"]), inbox, state
            )
        parts.append((output.action, output.message, output.log_std))

    def together(leaves: Sequence[Tensor]) -> Tensor:
        return torch.cat([leaf[0] for leaf in leaves]).unflatten(0, (count, forced))

    actions, said, log_stds = zip(*parts, strict=True)
    log_std = None if log_stds[0] is None else together(log_stds)
    return TickOutput(together(actions), together(said), log_std=log_std)


def influence(
    channel: Overheard,
    situations: Columns,
    heard: Columns,
    pool: Pool,
    rng: np.random.Generator,
    device: torch.device,
) -> Influence | None:
    """What a channel's messages do to its listener.

    Policies are those that the agent has: the softmax of a discrete action's logits (of an answer,
    where there are labels), the Gaussian of a continuous action with ``log_std``. Anything else,
    a continuous action without deviation or what a listener says that does not act, has no
    probability: it stands for the nearest of sixteen centres of what was recorded, and its policy
    is that point.

    Args:
        heard: what the listener did, to place centres by.
        pool: the messages to force.

    Returns:
        None where there is no situation, or nothing that the listener does.
    """
    if not situations or "response" not in heard:
        return None
    true = torch.from_numpy(situations["message"]).to(device)[:, None]  # [S, 1, D]
    others = torch.from_numpy(pool.messages).to(true).expand(len(true), -1, -1)
    output = forced_ticks(channel, situations, torch.cat([true, 0 * true, others], 1))
    spec, age = channel.listener.spec, situations["own_age"]
    if spec.action_size and not spec.discrete and output.log_std is not None:
        mean, log_std = (x.double().cpu().numpy() for x in (output.action, output.log_std))
        good = np.isfinite(mean).all((1, 2)) & np.isfinite(log_std).all((1, 2))
        return _of_gaussians(mean[good], log_std[good], age[good], pool, rng)
    of_points = not (spec.action_size and spec.discrete)
    if of_points:
        policy = _points(channel, output, heard, rng)
    else:
        policy = output.action.double().log_softmax(-1).cpu().numpy()
    good = ~np.isnan(policy).any((1, 2))
    return _of_policies(policy[good], age[good], pool, of_points)


def _points(
    channel: Overheard, output: TickOutput, heard: Columns, rng: np.random.Generator
) -> Values:
    """Logarithms of policies that are points, ``[S, K, centres]``."""
    flat = (output.action.flatten(0, 1), output.message.flatten(0, 1))
    response = response_of(channel, *flat)
    assert response is not None, "who does nothing is left out before"
    values = response.unflatten(0, output.message.shape[:2]).double().cpu().numpy()
    values = values.reshape(*values.shape[:2], -1)
    centres = Centres(heard["response"].reshape(len(heard["response"]), -1), CENTRES, rng)
    point = centres(np.nan_to_num(values))
    policy = np.where(np.arange(centres.size) == point[..., None], 0.0, -math.inf)
    policy[~np.isfinite(values).all(-1)] = math.nan
    return policy


def _of_policies(policy: Values, age: Values, pool: Pool, of_points: bool) -> Influence:
    true, zeroed, forced = policy[:, :1], policy[:, 1], policy[:, 2:]
    return Influence(
        age=age,
        causal=causal_influence(forced, pool.weights),
        l1_zeroed=l1_distance(true[:, 0], zeroed),
        l1_shuffled=l1_distance(true, forced) @ pool.weights,
        kl_zeroed=None if of_points else kl_divergence(true[:, 0], zeroed),
        kl_shuffled=None if of_points else kl_divergence(true, forced) @ pool.weights,
    )


def _of_gaussians(
    mean: Values, log_std: Values, age: Values, pool: Pool, rng: np.random.Generator
) -> Influence:
    true = mean[:, :1], log_std[:, :1]
    zeroed = mean[:, 1:2], log_std[:, 1:2]
    forced = mean[:, 2:], log_std[:, 2:]
    wide = tuple(np.broadcast_to(part, forced[0].shape) for part in true)
    return Influence(
        age=age,
        causal=gaussian_causal_influence(*forced, rng, pool.weights),
        l1_zeroed=gaussian_l1_distance(*true, *zeroed, rng)[:, 0],
        l1_shuffled=gaussian_l1_distance(wide[0], wide[1], *forced, rng) @ pool.weights,
        kl_zeroed=gaussian_kl_divergence(*true, *zeroed)[:, 0],
        kl_shuffled=gaussian_kl_divergence(*true, *forced) @ pool.weights,
    )
