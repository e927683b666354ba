"""Links that carry only so much: a queue of bounded length for each channel and world."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dnicomm.sim.channel import Channel


class LinkQueues:
    """What waits for each channel to be free, in one episode.

    A link carries one message at a time and takes ``1 / bandwidth`` of world time for it. A
    message that finds it busy waits behind the others, first come first served; one that finds
    ``queue`` messages waiting is dropped (tail drop) and never arrives.

    Args:
        channel: its ``bandwidth`` and ``queue``.
        num_edges: E; num_worlds: B.
        horizon: world time of the episode; what would wait for longer never arrives.
    """

    def __init__(
        self,
        channel: Channel,
        num_edges: int,
        num_worlds: int,
        horizon: int,
        device: torch.device,
    ) -> None:
        assert channel.bandwidth is not None
        self.service, self.queue = 1 / channel.bandwidth, channel.queue
        self.free_at = torch.zeros(num_edges, num_worlds, dtype=torch.float64, device=device)
        # a message is on its way for one unit anyway: what is beyond that is waiting
        beyond = min((self.queue + 1) * self.service, horizon + 1) - 1e-9
        self.longest = max(math.ceil(beyond) - 1, 0)

    def admit(self, edges: Tensor, time: int, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Messages ``[e, B]`` sent at ``time`` on ``edges`` ``[e]``, where ``mask`` says so.

        Returns:
            How much later than usual each arrives, ``[e, B]`` int64 of 0 … ``longest`` (world
            time), and which are carried at all, ``[e, B]`` bool.
        """
        start = self.free_at[edges].clamp(min=time)
        # in transmission or waiting; a rounding error is no message
        before = ((start - time) / self.service - 1e-9).ceil()
        carried = mask & (before <= self.queue)
        finish = start + self.service
        self.free_at[edges] = torch.where(carried, finish, self.free_at[edges])
        later = (finish - time - 1e-9).ceil() - 1
        return later.clamp(0, self.longest).long(), carried
