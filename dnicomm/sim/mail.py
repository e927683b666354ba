"""The life of a message, for all messages that go to one population.

::

    sent --> in flight --> delivered --> read 0, 1 or more times --> settled
      \\-- lost -----\\-- overtaken by a newer one ----------------/

Each channel has one slot in its receiver's inbox, holding the newest message that has arrived; a
message that arrives after a newer one was sent is overtaken and never read. A message's *target*
is the sum of the gradients of all its reads. It is settled, once in each world, when its
receiver's window ends at or after it was replaced, was lost, or the episode ended.

All of it is dense: slots by worlds. What time decides (which slots, when) is known on the host;
what differs by world is a mask on the device. Inside an open window the slots' values are part of
the window's graph: each delivery adds a *version* with its own leaf, and autograd sorts out which
version a read belonged to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnicomm.sim.parcel import Index, Parcel, Settlement, together


@dataclass
class _Version:
    """What was put into some slots of an open window, by one delivery (or before it opened)."""

    positions: Tensor  # [v] in the window
    leaf: Tensor  # [v, B, D] collects the gradient of its reads
    mask: Tensor  # [v, B]
    context: Tensor | None  # [v, B, C]; None for what was there before, kept in the mailbox
    sent_at: Tensor  # [v, B] world time


@dataclass
class _Read:
    positions: Tensor | None  # [r] slots in the window; None: all
    version: Tensor  # [r, B] which version was read
    mask: Tensor  # [r, B] there was one, and its reader was active


@dataclass
class _Window:
    members: Index  # [n]
    slots: Index  # [w = n * K]
    place: dict[int, int]  # slot -> position
    values: Tensor  # [w, B, D] in the graph
    version: Tensor  # [w, B] which version is current
    versions: list[_Version]
    reads: list[_Read] = field(default_factory=list)


class Mailbox:
    """Inboxes of a population: ``N`` members with ``K`` channels each, slot = member * K + k.

    Args:
        size: N; inputs: K; num_worlds: B; message_size: D; context_size: C.
        lifetime: age up to which a message is seen, world time; None: until it is replaced.
    """

    def __init__(
        self,
        size: int,
        inputs: int,
        num_worlds: int,
        message_size: int,
        context_size: int,
        device: torch.device,
        lifetime: int | None = None,
    ) -> None:
        self.inputs, self.lifetime = inputs, lifetime
        slots = size * inputs
        self.shape = (slots, num_worlds)
        self.value = torch.zeros(slots, num_worlds, message_size, device=device)
        self.context = torch.zeros(slots, num_worlds, context_size, device=device)
        self.gradient = torch.zeros(slots, num_worlds, message_size, device=device)
        self.cost = torch.zeros(slots, num_worlds, device=device)
        self.reads = torch.zeros(slots, num_worlds, device=device)
        self.sent_at = torch.full((slots, num_worlds), -1, device=device)  # -1: empty
        self.born_at: Tensor | None = None  # [slots, B] of the reader; None: with the episode
        self.in_flight: list[Parcel] = []
        self._newest = np.full(slots, -1, dtype=np.int64)  # newest delivered, in any world
        self._retired: list[Settlement] = []
        self._window: _Window | None = None

    # -- sending and arriving -----------------------------------------------------------------

    def send(self, parcel: Parcel, lost: Tensor | None = None) -> None:
        """Take messages on their way; ``lost`` ``[e, B]`` bool are those that never arrive."""
        if parcel.arrival <= parcel.sent_at:
            raise ValueError("a message arrives after it was sent")
        if lost is not None:
            self._retire_unread(parcel, parcel.mask & lost)
            parcel.mask = parcel.mask & ~lost
        self.in_flight.append(parcel)

    def deliver(self, time: int) -> None:
        """Put what has arrived by ``time`` into its slots."""
        due = [p for p in self.in_flight if p.arrival <= time]
        if due:
            self.in_flight = [p for p in self.in_flight if p.arrival > time]
            for parcel in sorted(due, key=lambda p: p.sent_at):
                self._put(parcel)

    def _put(self, parcel: Parcel) -> None:
        if (parcel.sent_at <= self._newest[parcel.slots]).any():
            newer = parcel.sent_at > self.sent_at[self._tensor(parcel.slots)]
            self._retire_unread(parcel, parcel.mask & ~newer)
            parcel.mask = parcel.mask & newer
        self._newest[parcel.slots] = np.maximum(self._newest[parcel.slots], parcel.sent_at)
        window = self._window
        inside = np.array([window is not None and s in window.place for s in parcel.slots])
        if inside.any():
            part = self._part(parcel, inside)
            self._put_in_window(part)
            self._store(part)
        if not inside.all():
            part = self._part(parcel, ~inside)
            slots = self._tensor(part.slots)
            held = part.mask & (self.sent_at[slots] >= 0)
            self._retired.append(self._settlement(part.slots, slots, held))
            self._store(part)
            self._clear(slots, part.mask)

    def _part(self, parcel: Parcel, chosen: NDArray[np.bool_]) -> Parcel:
        if chosen.all():
            return parcel
        at = self._tensor(np.flatnonzero(chosen))
        return Parcel(
            parcel.slots[chosen],
            parcel.value[at],
            parcel.context[at],
            parcel.mask[at],
            parcel.sent_at,
            parcel.arrival,
        )

    def _store(self, parcel: Parcel) -> None:
        slots, mask = self._tensor(parcel.slots), parcel.mask
        each = mask[..., None]
        self.value[slots] = torch.where(each, parcel.value.detach(), self.value[slots])
        self.context[slots] = torch.where(each, parcel.context, self.context[slots])
        self.sent_at[slots] = torch.where(mask, parcel.sent_at, self.sent_at[slots])

    def _clear(self, slots: Tensor, mask: Tensor) -> None:
        self.gradient[slots] = torch.where(mask[..., None], 0.0, self.gradient[slots])
        self.cost[slots] = torch.where(mask, 0.0, self.cost[slots])
        self.reads[slots] = torch.where(mask, 0.0, self.reads[slots])

    # -- windows ------------------------------------------------------------------------------

    def open_window(self, members: Index) -> None:
        """Begin a window in which ``members`` ``[n]`` may read."""
        assert self._window is None, "a window is open already"
        k = np.arange(self.inputs)
        slots = (members[:, None] * self.inputs + k).reshape(-1)
        at = self._tensor(slots)
        leaf = self.value[at].requires_grad_()
        place = {int(s): i for i, s in enumerate(slots)}
        everything = torch.arange(len(slots), device=leaf.device)
        sent_at = self.sent_at[at]
        first = _Version(everything, leaf, sent_at >= 0, None, sent_at)
        version = torch.zeros(leaf.shape[:2], dtype=torch.int64, device=leaf.device)
        self._window = _Window(members, slots, place, leaf, version, [first])

    def _put_in_window(self, parcel: Parcel) -> None:
        window = self._window
        assert window is not None
        positions = self._tensor(np.array([window.place[int(s)] for s in parcel.slots]))
        first = window.versions[0]
        if first.context is None:  # about to be overwritten in the mailbox
            first.context = self.context[self._tensor(window.slots)]
        if parcel.value.requires_grad:  # exact feedback: the sender's graph goes on
            leaf = parcel.value * 1
            leaf.retain_grad()
        else:
            leaf = parcel.value.detach().requires_grad_()
        number = len(window.versions)
        sent_at = self._sent_at(parcel)
        window.versions.append(_Version(positions, leaf, parcel.mask, parcel.context, sent_at))
        new = torch.where(parcel.mask[..., None], leaf, window.values[positions])
        window.values = window.values.index_copy(0, positions, new)
        window.version[positions] = torch.where(parcel.mask, number, window.version[positions])

    def read(
        self, time: int, positions: Tensor | None, active: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What some members of the open window find in their inboxes at ``time``.

        Args:
            positions: ``[n]`` members' places in the window; None: all of them.
            active: ``[n, B]`` bool, worlds in which they read; None: all.

        Returns:
            Messages ``[n, B, K, D]``, mask ``[n, B, K]`` and age ``[n, B, K]`` (world time).
        """
        window = self._window
        assert window is not None, "a read needs an open window"
        own, at, members = self._tensor(window.slots), None, len(window.members)
        if positions is not None:
            k = torch.arange(self.inputs, device=positions.device)
            at = (positions[:, None] * self.inputs + k).flatten()
            own, members = own[at], len(positions)
        values = window.values if at is None else window.values[at]
        sent_at = self.sent_at[own]
        filled = self._seen(time, own)
        mask = filled
        if active is not None:
            mask = filled & active.repeat_interleave(self.inputs, 0)
        version = window.version if at is None else window.version[at]
        window.reads.append(_Read(at, version.clone(), mask))
        return self._inbox(members, values, filled, (time - sent_at) * filled)

    def peek(self, time: int, members: Index) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`read`, without a gradient and without counting as a read."""
        k = np.arange(self.inputs)
        slots = self._tensor((members[:, None] * self.inputs + k).reshape(-1))
        sent_at = self.sent_at[slots]
        filled = self._seen(time, slots)
        age = (time - sent_at) * filled
        return self._inbox(len(members), self.value[slots], filled, age)

    def _seen(self, time: int, slots: Tensor) -> Tensor:
        """Where a message lies that its reader may see, ``[n, B]``."""
        sent_at = self.sent_at[slots]
        seen = sent_at >= 0
        if self.lifetime is not None:
            seen = seen & (time - sent_at <= self.lifetime)
        if self.born_at is not None:
            seen = seen & (sent_at >= self.born_at[slots])
        return seen

    def begin_again(self, born: Tensor, time: int) -> None:
        """Readers ``[N, B]`` bool that begin a new life see nothing that was sent before."""
        if self.born_at is None:
            self.born_at = torch.zeros_like(self.sent_at)
        slots = born.repeat_interleave(self.inputs, 0)
        self.born_at = torch.where(slots, time, self.born_at)

    def _inbox(
        self, members: int, values: Tensor, filled: Tensor, age: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        def by_member(x: Tensor) -> Tensor:  # [n * K, B, …] -> [n, B, K, …]
            return x.reshape(members, self.inputs, *x.shape[1:]).transpose(1, 2)

        if self.lifetime is not None or self.born_at is not None:  # else zero where there is none
            values = torch.where(filled[..., None], values, 0.0)
        return by_member(values), by_member(filled), by_member(age.to(values.dtype))

    def close_window(self, costs: Sequence[Tensor], first_only: bool = False) -> None:
        """End the window after its backward pass: gradients go to the messages that were read.

        Args:
            costs: for each read in order, the reader's loss there, ``[n, B]``.
            first_only: a message is charged for its first read alone (a reader with memory, whose
                cost counts from there to the window's end).
        """
        window = self._window
        assert window is not None, "no window is open"
        self._window = None
        at = self._tensor(window.slots)
        for number, version in enumerate(window.versions):
            gradient, cost, reads = self._found(window, number, version, costs, first_only)
            positions = version.positions
            current = (window.version[positions] == number) & version.mask
            slots = at[positions]
            if number == 0:
                gradient = gradient + self.gradient[slots]
                cost = cost + self.cost[slots]
                reads = reads + self.reads[slots]
            if len(window.versions) > 1:
                gone = version.mask & ~current
                context = version.context
                assert context is not None
                value = version.leaf.detach()
                settled = Settlement(
                    window.slots[positions.cpu().numpy()],
                    value, context, gradient, cost, reads, gone, version.sent_at,
                )  # fmt: skip
                self._retired.append(settled)
                each = current[..., None]
                self.gradient[slots] = torch.where(each, gradient, self.gradient[slots])
                self.cost[slots] = torch.where(current, cost, self.cost[slots])
                self.reads[slots] = torch.where(current, reads, self.reads[slots])
            else:
                self.gradient[slots], self.cost[slots], self.reads[slots] = gradient, cost, reads
        self.cut()

    def cut(self) -> None:
        """A window ends: mail that crosses its edge carries no graph, whoever read meanwhile."""
        for parcel in self.in_flight:
            parcel.value = parcel.value.detach()

    def discard_window(self) -> None:
        """End the window without counting its reads, where nobody learns from what is over."""
        self._window = None
        self._retired = []

    def _found(
        self,
        window: _Window,
        number: int,
        version: _Version,
        costs: Sequence[Tensor],
        first_only: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient, cost and number of reads of one version, ``[v, B, …]``."""
        leaf = version.leaf
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        before = self.reads[self._tensor(window.slots)] if number == 0 else None
        reads = window.values.new_zeros(window.version.shape)
        cost = torch.zeros_like(reads)
        for read, paid in zip(window.reads, costs, strict=True):
            hit = read.mask & (read.version == number)
            at = slice(None) if read.positions is None else read.positions
            pays = hit
            if first_only:
                so_far = reads[at] if before is None else reads[at] + before[at]
                pays = hit & (so_far == 0)
            paid_by_slot = paid.detach().repeat_interleave(self.inputs, 0)
            cost[at] += torch.where(pays, paid_by_slot, 0.0)
            reads[at] += hit
        positions = version.positions
        return gradient.detach(), cost[positions], reads[positions]

    # -- the end of a life --------------------------------------------------------------------

    def take_settlements(self) -> list[Settlement]:
        """Messages to settle now, each once; those with distinct slots come together.

        Those of one slot come in the order in which their lives ended.
        """
        batches: list[list[Settlement]] = []
        after = np.zeros(self.shape[0], dtype=np.int64)  # the first batch free for each slot
        for settlement in self._retired:
            number = int(after[settlement.slots].max())
            if number == len(batches):
                batches.append([])
            batches[number].append(settlement)
            after[settlement.slots] = number + 1
        self._retired = []
        return [batch[0] if len(batch) == 1 else together(batch) for batch in batches]

    def end_episode(self) -> None:
        """Retire everything: what lies in slots with what was found, the rest as never read."""
        assert self._window is None, "windows end before the episode does"
        for parcel in self.in_flight:
            self._retire_unread(parcel, parcel.mask)
        self.in_flight = []
        slots = np.arange(self.shape[0])
        if len(slots):
            settled = self._settlement(slots, self._tensor(slots), self.sent_at >= 0)
            self._retired.append(settled)
        self._newest[:] = -1
        self.born_at = None
        self.sent_at.fill_(-1)
        for tensor in (self.value, self.gradient, self.cost, self.reads):
            tensor.zero_()

    def _settlement(self, slots: Index, at: Tensor, mask: Tensor) -> Settlement:
        found = (self.value[at], self.context[at], self.gradient[at], self.cost[at], self.reads[at])
        return Settlement(slots, *found, mask, self.sent_at[at])

    def _retire_unread(self, parcel: Parcel, mask: Tensor) -> None:
        value = parcel.value.detach()
        none = torch.zeros(mask.shape, device=mask.device)
        zero = torch.zeros_like(value)
        found = (value, parcel.context, zero, none, none)
        self._retired.append(Settlement(parcel.slots, *found, mask, self._sent_at(parcel)))

    def _sent_at(self, parcel: Parcel) -> Tensor:
        """``[e, B]``"""
        return self.sent_at.new_tensor(parcel.sent_at).expand(parcel.mask.shape)

    def _tensor(self, index: Index) -> Tensor:
        return torch.from_numpy(index).to(self.value.device)
