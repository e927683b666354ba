"""Mail between the agents of one PettingZoo environment, over the simulator's channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dnicomm.sim.channel import Channel
from dnicomm.sim.checks import checked_delays, checked_losses
from dnicomm.sim.random import generator
from dnicomm.sim.scarcity import LinkQueues
from dnicomm.sim.topology import Edge, edge_name

_CHUNK = 1024  # world time for which delays and losses are drawn at once
_LONGEST_WAIT = 2**31  # world time for a busy link: as long as it takes


class Post:
    """What is on its way and what has arrived, in one episode after another.

    The rules are the simulator's: a message sent at time ``t`` arrives at ``t + 1`` and the
    channel's delay or later; an inbox has one place for each channel, which holds the newest
    message that has arrived; one that a newer one has overtaken is dropped.

    Args:
        edges: the channels.
        channel: what happens on each of them.
        width: D, numbers in a message.
    """

    def __init__(self, edges: Sequence[Edge], channel: Channel, width: int) -> None:
        self.edges, self.channel, self.width = edges, channel, width
        self._seed = int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
        self._episode = 0
        self._clear()

    def begin(self, seed: int | None) -> None:
        """An episode begins; without a seed it is the next one of the last seed."""
        if seed is None:
            self._episode += 1
        else:
            self._seed, self._episode = int(seed), 0
        self._clear()

    def _clear(self) -> None:
        self._flying: list[list[tuple[int, int, NDArray[np.float32]]]] = [[] for _ in self.edges]
        self._newest = [-1 for _ in self.edges]  # when what lies in the inbox was sent; -1: nothing
        self._there = np.zeros((len(self.edges), self.width), dtype=np.float32)
        self._drawn: dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.bool_] | None]] = {}
        self._queues: LinkQueues | None = None
        if self.channel.bandwidth is not None:
            cpu = torch.device("cpu")
            self._queues = LinkQueues(self.channel, len(self.edges), 1, _LONGEST_WAIT, cpu)

    def senders(self, receiver: str) -> list[str]:
        """Whom an agent hears, in the order of its inbox."""
        return [a for a, b in self.edges if b == receiver]

    def speaks(self, sender: str) -> bool:
        """Whether anybody hears an agent."""
        return any(a == sender for a, _ in self.edges)

    def send(self, sender: str, message: NDArray[np.float32], time: int) -> None:
        """An agent says ``message`` ``[D]`` to all who hear it."""
        for number, edge in enumerate(self.edges):
            if edge[0] != sender:
                continue
            delay, lost = self._fate(number, time)
            if self._queues is not None:
                sent = torch.ones(1, 1, dtype=torch.bool)
                later, carried = self._queues.admit(torch.tensor([number]), time, sent)
                delay, lost = delay + int(later), lost or not bool(carried)
            if lost:
                continue
            arrived = self.channel.distort(
                torch.from_numpy(message)[None], self._draw("noise", edge_name(*edge), time)
            )
            self._flying[number].append((time + 1 + delay, time, arrived[0].numpy()))

    def inbox(self, receiver: str, time: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What an agent has heard by ``time``, which never goes back.

        Returns:
            Messages ``[K, D]``, zero where there is none, and where there is one, ``[K]``.
        """
        mine = [number for number, edge in enumerate(self.edges) if edge[1] == receiver]
        for number in mine:
            flying = self._flying[number]
            for arrival, sent, message in flying:
                if arrival <= time and sent > self._newest[number]:
                    self._newest[number], self._there[number] = sent, message
            self._flying[number] = [mail for mail in flying if mail[0] > time]
        return self._there[mine], np.array([self._newest[number] >= 0 for number in mine], bool)

    def _fate(self, number: int, time: int) -> tuple[int, bool]:
        """Delay of a message sent now, and whether it is lost."""
        chunk, at = divmod(time, _CHUNK)
        if (number, chunk) not in self._drawn:
            name = edge_name(*self.edges[number])
            delays = self.channel.delays(self._draw("delay", name, chunk), _CHUNK)
            lost = self.channel.lost(self._draw("lost", name, chunk), (_CHUNK, 1))
            self._drawn[number, chunk] = (
                checked_delays(self.channel, name, delays, _CHUNK),
                checked_losses(self.channel, name, lost, (_CHUNK, 1)),
            )
        delays, lost = self._drawn[number, chunk]
        return int(delays[at]), lost is not None and bool(lost[at, 0])

    def _draw(self, *key: str | int) -> np.random.Generator:
        return generator(self._seed, "post", *key, self._episode)
