"""The open window of one population: what its members did since they last learnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnicomm.core import Rows, Window
from dnicomm.core.tree import mapped
from dnicomm.sim.agent import Inbox, State, TickOutput


@dataclass
class Tick:
    """Some members ticking at one time."""

    time: int
    members: NDArray[np.int64]  # [n] rows of the population
    at: Tensor  # [n] the same, on the device
    rows: Rows  # their parameters
    output: TickOutput  # [n, B, …]
    message: Tensor  # [n, B, D] in the graph; encoded once it is sent
    active: Tensor | None  # [n, B] bool; None: all worlds
    action: Tensor  # [n, B] or [n, B, A]
    spoke: Tensor | None  # [n, B] bool, whether the message is sent; None: it is
    label: Tensor | None  # [n, B], or [n, B, action_size] of a continuous action
    observation: Tensor | None = None  # [n, B, …] kept where the tick is computed again
    inbox: Inbox | None = None  # the same
    allowed: Tensor | None = None  # [n, B, A] bool, the same; None: every action
    # what message became of output.message by; of some worlds [b], or None: all
    encode: Callable[[Tensor, Tensor | None], Tensor] | None = None
    given: Tensor | None = None  # [n, B, D] what receivers told of the messages sent here
    foreseen: Tensor | None = None  # [n, B] value of those messages to their receivers

    def masked(self, values: Tensor) -> Tensor:
        """``values`` ``[n, B]``, zero in worlds in which a member was not active."""
        return values if self.active is None else torch.where(self.active, values, 0.0)


@dataclass
class OpenWindow:
    """Members due in a stretch of world time, with their parameters gathered once."""

    start: int  # world time
    members: NDArray[np.int64]  # [w]
    rows: Rows  # [w, P]
    record: Window  # what is backpropagated; shared by all populations where feedback is exact
    state: State  # [w, B, …] in the graph
    at: Tensor | None = None  # [w] the members, on the device; None: all
    first_state: State = ()  # [w, B, …] as the window began
    ticks: list[Tick] = field(default_factory=list)
    births: list[tuple[int, Tensor, State]] = field(default_factory=list)  # time, who, state
    # time of the last step, whose life it cut off [w, B], what they expected then [w, B]
    truncations: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)

    def place(self, members: NDArray[np.int64]) -> Tensor | None:
        """Where ``members`` stand in the window; None: they are all of it."""
        if len(members) == len(self.members):
            return None
        return torch.from_numpy(np.searchsorted(self.members, members)).to(
            self.rows.parameters.device
        )

    def live(self, worlds: Tensor | None = None) -> Tensor:
        """Members ``[w]`` that ticked in any of ``worlds`` ``[b]`` (None: all): they can learn."""
        live = torch.zeros(len(self.members), dtype=torch.bool, device=self.rows.parameters.device)
        for tick in self.ticks:
            place = self.place(tick.members)
            active = tick.active
            if active is not None:
                active = active if worlds is None else active[:, worlds]
            live[slice(None) if place is None else place] |= (
                torch.ones_like(tick.at, dtype=torch.bool) if active is None else active.any(1)
            )
        return live

    def update_state(self, place: Tensor | None, new: State, active: Tensor | None) -> None:
        """Put the states ``[n, B, …]`` after a tick in; inactive worlds keep theirs."""
        self.state = replace_rows(self.state, place, new, active)

    def begin_again(self, born: Tensor, time: int, start: State) -> None:
        """Members have the state ``start`` ``[w, B, …]`` at ``time`` where ``born`` ``[w, B]``."""
        self.births.append((time, born, start))
        self.update_state(None, start, born)


def replace_rows(state: State, at: Tensor | None, new: State, active: Tensor | None) -> State:
    """``state`` ``[N, B, …]`` with rows ``at`` (None: all) replaced where active, out of place."""

    def one(old: Tensor, fresh: Tensor) -> Tensor:
        if active is not None:
            before = old if at is None else old[at]
            mask = active.reshape(*active.shape, *[1] * (fresh.dim() - 2))
            fresh = torch.where(mask, fresh, before)
        return fresh if at is None else old.index_copy(0, at, fresh)

    return mapped(one, state, new)


def take_rows(state: State, at: Tensor | None) -> State:
    """Rows ``at`` of a state ``[N, B, …]`` (None: all)."""
    return state if at is None else mapped(lambda leaf: leaf.index_select(0, at), state)
