"""What one episode comes to as a recording.

The columns of a recording, times since it began (world time):

====================  ==========================================================================
``tick.*``            ``time``, ``agent``, ``action`` (discrete ones, else -1), ``label`` (-1: none)
``message.*``         ``channel``, ``sent``, ``arrival``, ``lost`` (1: on the way, 2: the episode
                      ended before it arrived), ``first_read`` (-1: never), ``reads``, ``settled``
                      (-1: not while it was recorded), and of gradients:
                      ``synthetic`` (norm of what the utility model said as it was sent),
                      ``injected`` (norm of what the sender got of it), ``target`` (norm of the true
                      one), ``cosine`` and ``error`` of synthetic to true (error relative); NaN
                      where there is none
``update.*``          ``time`` (at its end), ``agent``, ``steps`` of the optimiser
``reward.*``          ``time``, ``agent``, ``value``, where it is not zero
``vector.*``          a sample of messages of all worlds: ``value`` ``[n, D]``, ``channel``,
                      ``sent``, ``label`` (NaN: none)
====================  ==========================================================================
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnicomm.sim.agent import Inbox, State
from dnicomm.sim.engine import Engine
from dnicomm.sim.lane import Lane
from dnicomm.sim.message_sample import MessageSample
from dnicomm.sim.parcel import Parcel, Settlement
from dnicomm.sim.window import Tick

MOST = 4000  # ticks, and as many messages, of one recording
INTEGERS = {
    "tick": ("time", "agent", "action", "label"),
    "message": ("channel", "sent", "arrival", "lost", "first_read", "reads", "settled"),
    "update": ("time", "agent", "steps"),
    "reward": ("time", "agent"),
}
NUMBERS = {
    "message": ("synthetic", "injected", "target", "cosine", "error"),
    "reward": ("value",),
}
TIMES = (
    "tick.time", "message.sent", "message.arrival", "message.first_read", "message.settled",
    "update.time", "reward.time", "vector.sent",
)  # fmt: skip


@dataclass
class Recorded:
    """Some episodes in a row."""

    columns: dict[str, NDArray[Any]]
    facts: dict[str, Any]


class EpisodeRecording:
    """What is known so far of the episode that is being played; an observer of its engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.channel_of = {edge: number for number, edge in enumerate(engine.edges)}
        self.time = 0
        self.until: int | None = None  # the time from which on nothing new is recorded
        self.begun = False
        self.rows: dict[str, list[Any]] = defaultdict(list)
        self.synthetic: dict[int, Tensor] = {}  # by message, until it is settled
        self.message_at: dict[tuple[int, int, int], int] = {}  # lane, slot, sent -> message
        self.updates: dict[int, list[int]] = {}
        self.sample: MessageSample | None = None

    # -- what the engine tells ----------------------------------------------------------------

    def ticked(
        self, lane: Lane, tick: Tick, observation: Tensor, inbox: Inbox, before: State
    ) -> None:
        """A population's tick, right after it was computed."""
        if not self.begun:
            self._begin(tick.time)
        population = lane.population
        assert self.sample is not None
        self.sample.ticks[id(population)] = tick
        here = [True] * len(tick.members) if tick.active is None else tick.active[:, 0].tolist()
        slots = population.spec.num_inputs
        mask, age = inbox.mask[:, 0].tolist(), inbox.age[:, 0].tolist()
        spec = population.spec
        acts = spec.action_size and spec.discrete
        action = tick.action[:, 0].tolist() if acts else None
        label = None if tick.label is None else tick.label[:, 0].tolist()
        for i, row in enumerate(tick.members.tolist()):
            if not here[i]:
                continue
            for k in range(slots):
                if mask[i][k]:
                    self._read(id(lane), row * slots + k, tick.time - round(age[i][k]))
            if self.until is None:
                self._add("tick", time=tick.time, agent=int(population.indices[row]),
                          action=-1 if action is None else action[i],
                          label=-1 if label is None else label[i])  # fmt: skip

    def _begin(self, time: int) -> None:
        """From now on every message and every window goes through our hands."""
        self.begun, self.time = True, time
        self.sample = MessageSample(self.engine)
        for lane in self.engine.lanes:
            self.updates[id(lane)] = lane.population.agents.updates.tolist()
            self._overhear(lane)

    def _overhear(self, lane: Lane) -> None:
        mailbox = lane.mailbox
        send, deliver, take = mailbox.send, mailbox.deliver, mailbox.take_settlements

        def sent(parcel: Parcel, lost: Tensor | None = None) -> None:
            self._sent(lane, parcel, lost)
            send(parcel, lost)

        def delivered(time: int) -> None:
            self.time = time
            if self.until is None and max(self._count("tick"), self._count("message")) >= MOST:
                self.until = time
            deliver(time)

        def taken() -> list[Settlement]:
            self._updated(lane)
            settlements = take()
            for settlement in settlements:
                self._settled(lane, settlement)
            return settlements

        mailbox.send = sent  # type: ignore[method-assign]
        mailbox.deliver = delivered  # type: ignore[method-assign]
        mailbox.take_settlements = taken  # type: ignore[method-assign]

    @torch.no_grad()
    def _sent(self, lane: Lane, parcel: Parcel, lost: Tensor | None) -> None:
        assert self.sample is not None
        self.sample.sent(lane, parcel)
        if self.until is not None:
            return
        own = [e for e, there in enumerate(parcel.mask[:, 0].tolist()) if there]
        own = own[: MOST - self._count("message")]
        if not own:
            return
        said, factor = self._told(lane, parcel, own)
        gone = [False] * len(own) if lost is None else lost[own, 0].tolist()
        norms = [math.nan] * len(own)
        if said is not None:
            norms = torch.linalg.vector_norm(said, dim=-1).tolist()
        for i, e in enumerate(own):
            slot, message = int(parcel.slots[e]), self._count("message")
            edge = lane.population.inputs[slot]
            assert edge is not None
            self._add("message", channel=self.channel_of[edge], sent=parcel.sent_at,
                      arrival=parcel.arrival, lost=int(gone[i]), first_read=-1, reads=0, settled=-1,
                      synthetic=norms[i], injected=norms[i] * factor[i], target=math.nan,
                      cosine=math.nan, error=math.nan)  # fmt: skip
            self.message_at[id(lane), slot, parcel.sent_at] = message
            if said is not None:
                self.synthetic[message] = said[i]

    def _told(
        self, lane: Lane, parcel: Parcel, own: list[int]
    ) -> tuple[Tensor | None, list[float]]:
        """What the utility models say of messages ``[e, D]``, and the share that senders get."""
        interface, feedback = lane.population.interface, self.engine.feedback
        if interface is None:
            return None, [0.0] * len(own)
        rows = self.engine.tensor(parcel.slots[own])
        devices = [rows.device] if rows.is_cuda else []
        with torch.random.fork_rng(devices=devices):  # models may draw
            estimate = interface.estimate(
                parcel.value[own, :1].detach(), parcel.context[own, :1], rows
            )
        scale = feedback.synthetic_share * self.engine.gradient_scale
        if interface.fits_unread:
            return estimate.gradient[:, 0], [scale] * len(own)
        return estimate.gradient[:, 0], (scale * lane.population.share_read[rows]).tolist()

    def _read(self, lane: int, slot: int, sent_at: int) -> None:
        message = self.message_at.get((lane, slot, sent_at))
        if message is not None:
            self.rows["message.reads"][message] += 1
            if self.rows["message.first_read"][message] < 0:
                self.rows["message.first_read"][message] = self.time

    def _settled(self, lane: Lane, settlement: Settlement) -> None:
        own = [e for e, there in enumerate(settlement.mask[:, 0].tolist()) if there]
        sent_at = settlement.sent_at[own, 0].tolist()
        for e, sent in zip(own, sent_at, strict=True):
            message = self.message_at.pop((id(lane), int(settlement.slots[e]), sent), None)
            if message is None:
                continue
            true, said = settlement.gradient[e, 0], self.synthetic.pop(message, None)
            norm = torch.linalg.vector_norm(true).item()
            found = {"settled": self.time, "target": norm}
            if said is not None and norm > 0:
                size = torch.linalg.vector_norm(said).item()
                found["error"] = torch.linalg.vector_norm(said - true).item() / norm
                if size > 0:
                    found["cosine"] = (said @ true).item() / size / norm
            for name, value in found.items():
                self.rows[f"message.{name}"][message] = value

    def _updated(self, lane: Lane) -> None:
        """A window of a lane has ended: whose optimisers have stepped."""
        population, before = lane.population, self.updates[id(lane)]
        after = self.updates[id(lane)] = population.agents.updates.tolist()
        if self.until is not None or before == after:
            return
        for member, agent in enumerate(population.indices.tolist()):
            row = population.row(member)
            if after[row] > before[row]:
                self._add("update", time=self.time, agent=agent, steps=after[row] - before[row])

    # -- what comes of it ---------------------------------------------------------------------

    def recorded(self, began: int) -> Recorded:
        """The columns and facts of the episode, which is over."""
        engine = self.engine
        until = engine.length if self.until is None else self.until
        self._rewards(until)
        columns: dict[str, NDArray[Any]] = {}
        for kinds, dtype in ((INTEGERS, np.int32), (NUMBERS, np.float32)):
            for kind, names in kinds.items():
                for name in names:
                    key = f"{kind}.{name}"
                    columns[key] = np.array(self.rows[key], dtype=dtype)
        if self.sample is not None:
            columns |= {f"vector.{name}": c for name, c in self.sample.columns().items()}
        late = (columns["message.lost"] == 0) & (columns["message.arrival"] >= engine.length)
        columns["message.lost"][late] = 2
        facts = {
            "began": began,
            "starts": [0],
            "episode": engine.episode,
            "length": engine.length,
            "until": until,
            "world": 0,
            "num_worlds": engine.world.num_worlds,
            "agents": list(engine.world.agents),
            "edges": [list(edge) for edge in engine.edges],
            "label": None if self.sample is None else self.sample.label,
            "true_share": engine.feedback.true_share,
            "synthetic_share": engine.feedback.synthetic_share,
        }
        return Recorded(columns, facts)

    def _rewards(self, until: int) -> None:
        for time, rewards in enumerate(self.engine.rewards[:until]):
            for agent, value in enumerate(rewards[:, 0].tolist()):
                if value and self._count("reward") < MOST:
                    self._add("reward", time=time, agent=agent, value=value)

    def _add(self, kind: str, **values: float) -> None:
        for name, value in values.items():
            self.rows[f"{kind}.{name}"].append(value)

    def _count(self, kind: str) -> int:
        return len(self.rows[f"{kind}.{'sent' if kind == 'message' else 'time'}"])
