"""Listening in on episodes: a sample of what was said, of what was read, and what was done then.

Nothing is changed by it. Of each channel three things are sampled, uniformly over all worlds and
times however many there are:

- *spoken*: messages as they will arrive, at the time when they are sent, whether they arrive or
  not, with what the speaker saw and did at that tick and with what is known then of the world.
- *heard*: messages at the first tick of the listener after their arrival, with their age and with
  what the listener did there. So pairs are defined by delivery, not by the clock.
- *situations*: ticks at which a message was read, for the first time or again, with all that the
  listener's tick depends on: it can be computed again with another message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from dnicomm.sim.agent import Inbox, State
from dnicomm.sim.encoding import Occasion
from dnicomm.sim.engine import Engine
from dnicomm.sim.lane import Lane
from dnicomm.sim.parcel import Parcel
from dnicomm.sim.population import AgentPopulation
from dnicomm.sim.random import generator
from dnicomm.sim.topology import Edge, edge_name
from dnicomm.sim.window import Tick

SPOKEN = 2000  # samples of each channel, at most
HEARD = 2000
SITUATIONS = 512
MOST_NUMBERS = 2_000_000  # in one sample: with large observations it holds fewer
FEWEST = 64

Columns = dict[str, NDArray[Any]]  # by name, [n, …]


class Reservoir:
    """A uniform sample of at most ``size`` of the rows that are offered, however many.

    Each row draws a random key, and the rows with the smallest keys stay.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        self.keys: NDArray[np.float64] = np.zeros(0)
        self.parts: list[Columns] = []
        self.offered = 0
        self._bound = np.inf  # keys above it have no chance

    def choose(self, rows: Tensor) -> tuple[Tensor, NDArray[np.float64]]:
        """Which of ``rows`` ``[n]`` to bring by :meth:`add`, with their keys."""
        keys = self.rng.random(len(rows))
        self.offered += len(rows)
        good = keys < self._bound
        return rows[torch.from_numpy(good).to(rows.device)], keys[good]

    def add(self, keys: NDArray[np.float64], **columns: Tensor | NDArray[Any]) -> None:
        """Rows that were chosen, ``[n, …]`` in each column."""
        if len(keys) == 0:
            return
        self.keys = np.concatenate([self.keys, keys])
        self.parts.append({name: _array(values) for name, values in columns.items()})
        if len(self.keys) > 2 * self.size:
            self._prune()

    def columns(self) -> Columns:
        """The sample, in the order in which it came; empty where nothing was offered."""
        self._prune()
        return self.parts[0] if self.parts else {}

    def _prune(self) -> None:
        if not self.parts:
            return
        whole = {name: np.concatenate([part[name] for part in self.parts])
                 for name in self.parts[0]}  # fmt: skip
        if len(self.keys) > self.size:
            kept = np.sort(np.argsort(self.keys)[: self.size])
            self.keys = self.keys[kept]
            whole = {name: values[kept] for name, values in whole.items()}
        if len(self.keys) == self.size:
            self._bound = float(self.keys.max())
        self.parts = [whole]


@dataclass
class Overheard:
    """What was heard on one channel."""

    edge: Edge
    speaker: AgentPopulation
    speaker_row: int
    listener: AgentPopulation
    listener_row: int
    slot: int  # k, of the listener's inbox
    spoken: Reservoir
    heard: Reservoir
    situations: Reservoir
    last: Tensor | None = None  # [B] when the message last read was sent; -1: none yet

    @property
    def name(self) -> str:
        """Of the channel."""
        return edge_name(*self.edge)


@dataclass
class Listening:
    """Listens to what an engine plays, while it is entered as a context.

    Args:
        engine: whose episodes; one that does not learn.
        edges: the channels to listen to.
    """

    engine: Engine
    edges: Sequence[Edge]
    world_time: float = 0.0  # played so far, summed over worlds, while anybody was there
    channels: list[Overheard] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert not self.engine.learn, "while agents learn, a situation can't be computed again"
        world = self.engine.world
        causal = [name for name, fact in world.context_fields.items() if fact.kind == "causal"]
        self.facts = [name for name in world.default_context if name in causal]
        facts = sum(world.context_fields[name].size for name in self.facts)
        for edge in self.edges:
            self.channels.append(self._overheard(edge, facts))
        self._lanes: list[Lane] = []
        self._alive: list[Tensor | None] = []
        self._now: dict[int, tuple[Tick, Tensor]] = {}  # population -> its latest tick
        self._known: dict[str, Tensor] | None = None  # facts of this time

    def _overheard(self, edge: Edge, facts: int) -> Overheard:
        populations = self.engine.populations
        speaker = next(p for p in populations if edge[0] in p.names)
        listener = next(p for p in populations if edge[1] in p.names)
        place = listener.inputs.index(edge)
        row, slot = divmod(place, listener.spec.num_inputs)
        said, read = speaker.spec, listener.spec

        def sample(name: str, most: int, width: int) -> Reservoir:
            rows = max(min(most, MOST_NUMBERS // width), FEWEST)
            return Reservoir(rows, generator(self.engine.seed, "listening", edge_name(*edge), name))

        return Overheard(
            edge, speaker, speaker.names.index(edge[0]), listener, row, slot,
            sample("spoken", SPOKEN, said.message_size + said.input_size + facts),
            sample("heard", HEARD, 2 * read.message_size + read.action_size),
            sample("situations", SITUATIONS, read.input_size + listener.state_size),
        )  # fmt: skip

    def __enter__(self) -> Listening:
        self.engine.observer = self._ticked
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.observer = None
        self._count_time()

    # -- what the engine tells ----------------------------------------------------------------

    def _begin(self) -> None:
        """An episode has begun: everything that is sent in it goes through our hands."""
        self._count_time()
        self._lanes, self._alive = self.engine.lanes, self.engine.alive
        for channel in self.channels:
            channel.last = None
        for lane in self._lanes:
            send = lane.mailbox.send

            def overheard(
                parcel: Parcel, lost: Tensor | None = None, lane: Lane = lane, send: Any = send
            ) -> None:
                self._sent(lane, parcel)
                send(parcel, lost)

            lane.mailbox.send = overheard  # type: ignore[method-assign]

    def _count_time(self) -> None:
        """World time of the episode that is over; a world that has ended early counts no more."""
        worlds = self.engine.world.num_worlds
        going_on: float = worlds
        for alive in self._alive:
            self.world_time += going_on
            going_on = worlds if alive is None else float(alive.any(0).sum())
        self._alive = []

    def _ticked(
        self, lane: Lane, tick: Tick, observation: Tensor, inbox: Inbox, before: State
    ) -> None:
        if self.engine.lanes is not self._lanes:
            self._begin()
        self._now[id(lane.population)] = (tick, observation)
        self._known = None
        place = {int(row): i for i, row in enumerate(tick.members)}
        for channel in self.channels:
            if channel.listener is lane.population and channel.listener_row in place:
                self._read(channel, tick, place[channel.listener_row], observation, inbox, before)

    def _read(
        self,
        channel: Overheard,
        tick: Tick,
        at: int,
        observation: Tensor,
        inbox: Inbox,
        before: State,
    ) -> None:
        k = channel.slot
        there = inbox.mask[at, :, k]
        if tick.active is not None:
            there = there & tick.active[at]
        age = inbox.age[at, :, k]
        sent_at = tick.time - age
        new = there if channel.last is None else there & (sent_at != channel.last)
        last = torch.full_like(sent_at, -1) if channel.last is None else channel.last
        channel.last = torch.where(there, sent_at, last)
        message = inbox.messages[at, :, k]
        worlds, keys = channel.heard.choose(new.nonzero()[:, 0])
        response = response_of(channel, tick.action[at, worlds], tick.output.message[at, worlds])
        if response is not None:
            channel.heard.add(
                keys, message=message[worlds], age=age[worlds], response=response,
                group=self._group(worlds),
            )  # fmt: skip
        worlds, keys = channel.situations.choose(there.nonzero()[:, 0])
        leaves = [leaf[at, worlds] for leaf in pytree.tree_leaves(before)]
        channel.situations.add(
            keys, message=message[worlds], own_age=age[worlds],
            observation=observation[at, worlds], messages=inbox.messages[at, worlds],
            mask=inbox.mask[at, worlds], age=inbox.age[at, worlds], action=tick.action[at, worlds],
            **{f"state.{i}": leaf for i, leaf in enumerate(leaves)},
        )  # fmt: skip

    def _sent(self, lane: Lane, parcel: Parcel) -> None:
        for channel in self.channels:
            if channel.listener is not lane.population:
                continue
            slot = channel.listener_row * channel.listener.spec.num_inputs + channel.slot
            for e in np.flatnonzero(parcel.slots == slot):
                worlds, keys = channel.spoken.choose(parcel.mask[e].nonzero()[:, 0])
                tick, observation = self._now[id(channel.speaker)]
                at = int(np.searchsorted(tick.members, channel.speaker_row))
                facts = {f"fact.{name}": values[worlds] for name, values in self._facts().items()}
                channel.spoken.add(
                    keys, message=parcel.value[e, worlds], action=tick.action[at, worlds],
                    observation=observation[at, worlds], group=self._group(worlds), **facts,
                )  # fmt: skip

    def _facts(self) -> dict[str, Tensor]:
        """What is known of the world now, ``[B, size]`` each; an environment is asked once."""
        if self._known is None:
            world = self.engine.world
            self._known = {name: world.context(name) for name in self.facts}
        return self._known

    def _group(self, worlds: Tensor) -> Tensor:
        """A number ``[n]`` for each world of each episode: what happens there belongs together."""
        return self.engine.episode * self.engine.world.num_worlds + worlds


def response_of(channel: Overheard, action: Tensor, message: Tensor) -> Tensor | None:
    """What a listener does: its action or, if it only talks, what it says, as it would be sent.

    Args:
        action: ``[n]`` or ``[n, A]``.
        message: ``[n, D]`` as its tick gave it.

    Returns:
        ``[n]`` int64 or ``[n, …]``; None of one that neither acts nor talks.
    """
    population, row = channel.listener, channel.listener_row
    if population.spec.action_size:
        return action
    if not any(row in route.senders for route in population.routes):
        return None
    if population.encoder is None:
        return message
    member = torch.tensor([row], device=message.device)
    return population.encoder.encode(message[None], Occasion(False, member))[0]


def _array(values: Tensor | NDArray[Any]) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values
