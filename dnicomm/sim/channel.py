"""Channels: what happens to a message between sending and arrival.

A message sent at ``t`` with delay ``d`` arrives at ``t + 1 + d``. Distortions act on the value
only; gradients pass them unchanged (straight-through).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnicomm.errors import UserError


class Channel:
    """A perfect channel, and the base class of the others; override what differs."""

    bandwidth: float | None = None  # messages a unit of world time; None: as many as are sent
    queue: int = 0  # messages that may wait for the link; one more is dropped
    cost: float = 0.0  # taken from the sender's reward for each message (or bit) that it sends
    cost_unit: str = "message"  # or "bit"
    number_bits: int = 32  # that a number of a message takes

    def delays(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Delay in world time of messages sent at times ``0 … count - 1``; at least 0."""
        return np.zeros(count, dtype=np.int64)

    def lost(self, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Which messages never arrive, by time and world ``[count, B]``; None: none."""
        return None

    def distort(self, message: Tensor, rng: np.random.Generator) -> Tensor:
        """What arrives of ``message`` ``[B, D]`` (detached), ``[B, D]``."""
        return message

    @property
    def distorts(self) -> bool:
        """Whether ``distort`` does anything."""
        return type(self).distort is not Channel.distort

    @property
    def draws_delays(self) -> bool:
        """Whether delays may differ between edges and episodes; else they are asked for once."""
        return type(self).delays is not Channel.delays

    @property
    def loses(self) -> bool:
        """Whether ``lost`` may give anything but None."""
        return type(self).lost is not Channel.lost


def _number(key: str, value: object, allowed: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"channel.{key}={value}: must be {allowed}")
    return value


@dataclass(frozen=True)
class Delay(Channel):
    """A delay drawn uniformly from ``low … high``, both included; fixed if ``high`` is left out.

    Args:
        low: smallest delay, world time.
        high: largest delay; None: ``low``.
    """

    low: int = 0
    high: int | None = None

    def __post_init__(self) -> None:
        allowed = "a whole number of at least 0, or [low, high] with low <= high"
        shown = self.low if self.high is None else [self.low, self.high]
        for value in (self.low, self.low if self.high is None else self.high):
            if isinstance(value, bool) or not isinstance(value, int) or value < self.low:
                raise UserError(f"channel.delay={shown}: must be {allowed}")
        if self.low < 0:
            raise UserError(f"channel.delay={shown}: must be {allowed}")

    @property
    def draws_delays(self) -> bool:
        return self.high is not None and self.high > self.low

    def delays(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        high = self.low if self.high is None else self.high
        return rng.integers(self.low, high + 1, size=count)


@dataclass(frozen=True)
class Drop(Channel):
    """Each message is lost in each world with probability ``share``."""

    share: float

    def __post_init__(self) -> None:
        allowed = "a share from 0 to 1"
        if not 0 <= _number("drop", self.share, allowed) <= 1:
            raise UserError(f"channel.drop={self.share}: must be {allowed}")

    def lost(self, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        return rng.random(shape) < self.share if self.share > 0 else None


@dataclass(frozen=True)
class Noise(Channel):
    """Gaussian noise of standard deviation ``std`` on every number of a message."""

    std: float

    def __post_init__(self) -> None:
        allowed = "a standard deviation of at least 0"
        if _number("noise", self.std, allowed) < 0:
            raise UserError(f"channel.noise={self.std}: must be {allowed}")

    def distort(self, message: Tensor, rng: np.random.Generator) -> Tensor:
        noise = rng.standard_normal(tuple(message.shape), dtype=np.float32)
        return message + self.std * torch.from_numpy(noise).to(message.device, message.dtype)


@dataclass(frozen=True)
class Quantise(Channel):
    """Rounds each number to one of ``2 ** bits`` levels between the message's least and largest."""

    bits: int

    def __post_init__(self) -> None:
        if (
            isinstance(self.bits, bool)
            or not isinstance(self.bits, int)
            or not 1 <= self.bits <= 16
        ):
            raise UserError(f"channel.quantise={self.bits}: must be 1 to 16 bits a number, or null")
        object.__setattr__(self, "number_bits", self.bits)

    def distort(self, message: Tensor, rng: np.random.Generator) -> Tensor:
        low = message.amin(-1, keepdim=True)
        step = (message.amax(-1, keepdim=True) - low) / (2**self.bits - 1)
        return low + (((message - low) / step.clamp(min=1e-12)).round() * step)


@dataclass(frozen=True)
class Scarce(Channel):
    """A link that carries only so much, and costs.

    Args:
        bandwidth: messages a unit of world time, above 0; None: no limit. From 1 on there is none
            either, for an agent sends at most one at a time.
        queue: messages that may wait while the link is busy; one that finds as many is dropped.
        cost: what a message takes from its sender's reward, whether it arrives or not.
        cost_unit: ``message``, or ``bit``: the cost is that of each bit in a message.
    """

    bandwidth: float | None = None
    queue: int = 0
    cost: float = 0.0
    cost_unit: str = "message"

    def __post_init__(self) -> None:
        allowed = "a number above 0 (messages a unit of world time), or null"
        if self.bandwidth is not None and _number("bandwidth", self.bandwidth, allowed) <= 0:
            raise UserError(f"channel.bandwidth={self.bandwidth}: must be {allowed}")
        if isinstance(self.queue, bool) or not isinstance(self.queue, int) or self.queue < 0:
            raise UserError(f"channel.queue={self.queue}: must be a whole number of at least 0")
        if self.queue and self.bandwidth is None:
            raise UserError(f"channel.queue={self.queue}: nothing waits without channel.bandwidth")
        allowed = "a number of at least 0"
        if _number("cost", self.cost, allowed) < 0:
            raise UserError(f"channel.cost={self.cost}: must be {allowed}")
        if self.cost_unit not in ("message", "bit"):
            raise UserError(f"channel.cost_unit={self.cost_unit}: must be message or bit")


@dataclass(frozen=True)
class Series(Channel):
    """Channels one after another: delays add up, a message lost in one is lost."""

    links: tuple[Channel, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("bandwidth", "queue", "cost", "cost_unit", "number_bits"):
            own = [getattr(link, name) for link in self.links]
            plain = getattr(Channel, name)
            # of several links that limit, the last one does
            differing = [value for value in own if value != plain]
            object.__setattr__(self, name, differing[-1] if differing else plain)

    def delays(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        total = np.zeros(count, dtype=np.int64)
        for link in self.links:
            total += link.delays(rng, count)
        return total

    def lost(self, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        found: NDArray[np.bool_] | None = None
        for link in self.links:
            lost = link.lost(rng, shape)
            if lost is not None:
                found = lost if found is None else found | lost
        return found

    def distort(self, message: Tensor, rng: np.random.Generator) -> Tensor:
        for link in self.links:
            message = link.distort(message, rng)
        return message

    @property
    def distorts(self) -> bool:
        return any(link.distorts for link in self.links)

    @property
    def draws_delays(self) -> bool:
        return any(link.draws_delays for link in self.links)

    @property
    def loses(self) -> bool:
        return any(link.loses for link in self.links)


def standard_channel(
    delay: int | Sequence[int] = 0,
    drop: float = 0.0,
    noise: float = 0.0,
    quantise: int | None = None,
    bandwidth: float | None = None,
    queue: int = 0,
    cost: float = 0.0,
    cost_unit: str = "message",
) -> Channel:
    """The channel that a configuration describes: quantised, then noisy, queued, delayed, dropped.

    Args:
        delay: world time, fixed, or ``[low, high]`` drawn uniformly for each message.
        drop: share of messages lost.
        noise: standard deviation of Gaussian noise.
        quantise: bits a number; None: not quantised.
        bandwidth, queue, cost, cost_unit: as of :class:`Scarce`.

    Raises:
        UserError: if a value is out of range.
    """
    if isinstance(delay, int | float):
        links: list[Channel] = [Delay(delay)]  # checked there
    elif isinstance(delay, Sequence) and not isinstance(delay, str) and len(delay) == 2:
        links = [Delay(*delay)]
    else:
        raise UserError(f"channel.delay={delay}: must be a whole number or [low, high]")
    drops, noises, scarce = Drop(drop), Noise(noise), Scarce(bandwidth, queue, cost, cost_unit)
    if quantise is not None:
        links.insert(0, Quantise(quantise))
    if noise:
        links.append(noises)
    if drop:
        links.append(drops)
    if scarce != Scarce():
        links.append(scarce)
    return links[0] if len(links) == 1 else Series(tuple(links))
