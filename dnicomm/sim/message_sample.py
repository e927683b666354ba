"""A sample of the messages of one episode, with what they are about, to draw them as points."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dnicomm.sim.engine import Engine
from dnicomm.sim.lane import Lane
from dnicomm.sim.listening import Columns, Reservoir
from dnicomm.sim.parcel import Parcel
from dnicomm.sim.random import generator
from dnicomm.sim.window import Tick

VECTORS = 150  # messages of one channel
CHANNELS = 12  # the first ones
MOST_NUMBERS = 40_000  # in all vectors together


def thinned(columns: Columns) -> Columns:
    """Columns of which those of a sample of several episodes are no larger than of one."""
    value = columns.get("vector.value")
    if value is None:
        return columns
    channels = len(np.unique(columns["vector.channel"]))
    most = min(VECTORS * channels, MOST_NUMBERS // value.shape[1])
    if len(value) <= most:
        return columns
    kept = np.linspace(0, len(value) - 1, most).round().astype(np.int64)
    return {
        name: of[kept] if name.startswith("vector.") else of for name, of in columns.items()
    }  # fmt: skip


class MessageSample:
    """Messages of all worlds, as they will arrive, uniformly chosen on each channel.

    A message's label is a fact of the world that is known when it is sent and is a class or a
    number; else what its sender did at that tick.

    Attributes:
        label: the name of that fact, or ``action``.
        ticks: the latest tick of each population, by its id; kept up to date by who uses this.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ticks: dict[int, Tick] = {}
        self._field = self._labelling()
        self.label = self._field or "action"
        self._number = {edge: number for number, edge in enumerate(engine.edges[:CHANNELS])}
        size = engine.populations[0].spec.message_size
        rows = min(VECTORS, MOST_NUMBERS // max(1, len(self._number) * size))
        self._samples = {
            number: Reservoir(rows, generator(engine.seed, "recording", number, engine.episode))
            for number in (self._number.values() if rows else ())
        }

    def sent(self, lane: Lane, parcel: Parcel) -> None:
        """Messages to the population of ``lane`` leave."""
        for e, slot in enumerate(parcel.slots.tolist()):
            edge = lane.population.inputs[slot]
            assert edge is not None
            number = self._number.get(edge, -1)
            if number not in self._samples:
                continue
            sample = self._samples[number]
            worlds, keys = sample.choose(parcel.mask[e].nonzero()[:, 0])
            if len(keys):
                sample.add(
                    keys,
                    value=parcel.value[e, worlds].detach().to(torch.float32),
                    label=self._labels(edge[0])[worlds],
                    sent=np.full(len(keys), parcel.sent_at, dtype=np.int32),
                    channel=np.full(len(keys), number, dtype=np.int32),
                )

    def columns(self) -> Columns:
        """``value`` ``[n, D]``, ``label``, ``sent``, ``channel`` ``[n]``; empty if nobody spoke."""
        found = [columns for sample in self._samples.values() if (columns := sample.columns())]
        if not found:
            return {}
        return {name: np.concatenate([columns[name] for columns in found]) for name in found[0]}

    def _labels(self, sender: str) -> Tensor:
        """What messages sent now are about, ``[B]`` float32, NaN where nobody knows."""
        world = self.engine.world
        if self._field is not None:
            facts = world.context(self._field)
            return facts[:, 0] if facts.shape[1] == 1 else facts.argmax(1).to(torch.float32)
        population = next(p for p in self.engine.populations if sender in p.names)
        if population.spec.action_size and population.spec.discrete:
            tick = self.ticks[id(population)]
            at = int(np.searchsorted(tick.members, population.names.index(sender)))
            return tick.action[at].to(torch.float32)
        return torch.full((world.num_worlds,), math.nan, device=world.device)

    def _labelling(self) -> str | None:
        """The fact that labels messages; None: there is none."""
        world = self.engine.world
        for field in dict.fromkeys([world.label_field, *world.default_context]):
            known = None if field is None else world.context_fields.get(field)
            if field is not None and known is not None and known.kind == "causal":
                facts = world.context(field)  # [B, size]
                one_hot = ((facts == 0) | (facts == 1)).all() and (facts.sum(1) == 1).all()
                if known.size == 1 or bool(one_hot):
                    return field
        return None
