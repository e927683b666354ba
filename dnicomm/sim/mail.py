"""The life of a message, for all messages that go to one population.

::

    sent --> in flight --> delivered --> read 0, 1 or more times --> settled
      \\-- lost -----\\-- overtaken by a newer one ----------------/

Each channel has one slot in its receiver's inbox, holding the newest message that has arrived; a
message that arrives after a newer one was sent is overtaken and never read. A message's *target*
is the sum of the gradients of all its reads. It is settled, once in each world, when its
receiver's window ends at or after it was replaced, was lost, or the episode ended.

All of it is dense: slots by worlds. What time decides (which slots, when) is known on the host;
what differs by world is a mask on the device. Where the host knows that a mask is true everywhere,
rows are copied as they are. What is read inside an open window is in
``mail_window.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnicomm.sim.cells import Cells
from dnicomm.sim.mail_window import Found, MailWindow
from dnicomm.sim.parcel import Index, Parcel, Settlement, together


class Mailbox:
    """Inboxes of a population: ``N`` members with ``K`` channels each, slot = member * K + k.

    Args:
        size: N; inputs: K; num_worlds: B; message_size: D; context_size: C.
        lifetime: age up to which a message is seen, world time; None: until it is replaced.
        charges: whether messages learn what they cost their readers.
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
        charges: bool = True,
    ) -> None:
        self.inputs, self.lifetime, self.charges = inputs, lifetime, charges
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
        self._window: MailWindow | None = None
        self._place = np.full(slots, -1, dtype=np.int64)  # in the open window; -1: not there

    # -- sending and arriving -----------------------------------------------------------------

    def send(self, parcel: Parcel, lost: Tensor | None = None) -> None:
        """Take messages on their way; ``lost`` ``[e, B]`` bool are those that never arrive."""
        if parcel.arrival <= parcel.sent_at:
            raise ValueError("a message arrives after it was sent")
        if lost is not None:
            self._retire_unread(parcel, parcel.mask & lost)
            parcel.mask, parcel.whole = parcel.mask & ~lost, False
        self.in_flight.append(parcel)

    def deliver(self, time: int) -> None:
        """Put what has arrived by ``time`` into its slots."""
        due = self._due(time)
        if due:
            self.in_flight = [p for p in self.in_flight if p.arrival > time]
            for parcel in due:
                self._put(parcel)

    def _due(self, time: int) -> list[Parcel]:
        """What arrives by ``time``, in the order in which it was sent."""
        due = [p for p in self.in_flight if p.arrival <= time]
        return sorted(due, key=lambda p: p.sent_at)

    def _put(self, parcel: Parcel) -> None:
        if (parcel.sent_at <= self._newest[parcel.slots]).any():
            newer = parcel.sent_at > self.sent_at[self._tensor(parcel.slots)]
            self._retire_unread(parcel, parcel.mask & ~newer)
            parcel.mask, parcel.whole = parcel.mask & newer, False
        self._newest[parcel.slots] = np.maximum(self._newest[parcel.slots], parcel.sent_at)
        place = self._place[parcel.slots]
        inside = place >= 0
        if inside.any():
            part = self._part(parcel, inside)
            self._put_in_window(part, self._tensor(place[inside]))
            self._store(part, self._tensor(part.slots))
        if not inside.all():
            part = self._part(parcel, ~inside)
            slots = self._tensor(part.slots)
            held = part.mask & (self.sent_at.index_select(0, slots) >= 0)
            if held.is_cuda or bool(held.any()):  # to ask a GPU would cost more than to settle
                self._retired.append(self._settlement(part.slots, slots, held))
            self._store(part, slots, fresh=True)

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
            parcel.whole,
        )

    def _store(self, parcel: Parcel, slots: Tensor, fresh: bool = False) -> None:
        """Mail lies in its slots; ``fresh``: what was found of the mail before it is gone."""
        cells = Cells(slots, None if parcel.whole else parcel.mask)
        cells.put(self.value, parcel.value.detach())
        cells.put(self.context, parcel.context)
        cells.fill(self.sent_at, parcel.sent_at)
        for found in self._findings() if fresh else ():
            cells.fill(found, 0.0)

    # -- windows ------------------------------------------------------------------------------

    def open_window(self, members: Index) -> None:
        """Begin a window in which ``members`` ``[n]`` may read."""
        assert self._window is None, "a window is open already"
        slots = (members[:, None] * self.inputs + np.arange(self.inputs)).reshape(-1)
        at = self._tensor(slots)
        sent_at = self.sent_at.index_select(0, at)
        self._window = MailWindow(members, slots, at, self.value.index_select(0, at), sent_at)
        self._place[slots] = np.arange(len(slots))

    def _put_in_window(self, parcel: Parcel, positions: Tensor) -> None:
        window = self._window
        assert window is not None
        first = window.versions[0]
        if first.context is None:  # about to be overwritten in the mailbox
            first.context = self.context[window.at]
        mask = None if parcel.whole else parcel.mask
        window.put(positions, parcel.value, mask, parcel.context, self._sent_at(parcel))

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
        own, at, members = window.at, None, len(window.members)
        if positions is not None:
            k = torch.arange(self.inputs, device=positions.device)
            at = (positions[:, None] * self.inputs + k).flatten()
            own, members = own[at], len(positions)
        filled, age = self._seen(time, self.sent_at.index_select(0, own), own)
        mask = filled if active is None else filled & active.repeat_interleave(self.inputs, 0)
        return self._inbox(members, window.read(at, mask), filled, age)

    def peek(self, time: int, members: Index) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`read`, without a gradient and without counting as a read.

        What arrives by ``time`` counts as delivered, and stays on its way.
        """
        slots = (members[:, None] * self.inputs + np.arange(self.inputs)).reshape(-1)
        at = self._tensor(slots)
        value, sent_at = self.value.index_select(0, at), self.sent_at.index_select(0, at)
        place = np.full(self.shape[0], -1, dtype=np.int64)
        place[slots] = np.arange(len(slots))
        for parcel in self._due(time):
            inside = place[parcel.slots] >= 0
            if inside.any():
                part = self._part(parcel, inside)
                own = self._tensor(place[part.slots])
                newer = part.mask & (part.sent_at > sent_at.index_select(0, own))
                cells = Cells(own, newer)
                cells.put(value, part.value.detach())
                cells.fill(sent_at, part.sent_at)
        filled, age = self._seen(time, sent_at, at)
        return self._inbox(len(members), value, filled, age)

    def _seen(self, time: int, sent_at: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Where a message lies that its reader may see, and its age (else 0), ``[n, B]``.

        Args:
            sent_at: ``[n, B]`` of what lies in ``slots`` ``[n]``.
        """
        seen = sent_at >= 0
        if self.lifetime is not None:
            seen = seen & (time - sent_at <= self.lifetime)
        if self.born_at is not None:
            seen = seen & (sent_at >= self.born_at[slots])
        return seen, (time - sent_at) * seen

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
        self._shut()
        before = self.reads.index_select(0, window.at)
        paid = costs if self.charges else None
        for found in window.found(paid, self.inputs, first_only, before):
            first = found.version.start == 0
            slots = (
                window.at if found.version.positions is None else window.at[found.version.positions]
            )
            if first and found.current is None:  # nothing arrived meanwhile
                if found.gradient is not None:
                    self.gradient.index_add_(0, slots, found.gradient)
                if self.charges:
                    self.cost.index_add_(0, slots, found.cost)
                self.reads.index_add_(0, slots, found.reads)
            else:
                self._keep_or_retire(window, found, slots, first)
        self.cut()

    def _keep_or_retire(self, window: MailWindow, found: Found, slots: Tensor, first: bool) -> None:
        """What one of several versions found: kept where it still lies, else settled."""
        version, current = found.version, found.current
        assert current is not None
        assert version.context is not None
        gradient = found.gradient
        if gradient is None:
            gradient = torch.zeros_like(version.leaf)
        cost, reads = found.cost, found.reads
        if first:
            gradient = gradient + self.gradient[slots]
            cost = cost + self.cost[slots]
            reads = reads + self.reads[slots]
        gone = ~current if version.mask is None else version.mask & ~current
        own = (
            window.slots
            if version.positions is None
            else window.slots[version.positions.cpu().numpy()]
        )
        value = version.leaf.detach()
        self._retired.append(
            Settlement(own, value, version.context, gradient, cost, reads, gone, version.sent_at)
        )
        self.gradient[slots] = torch.where(current[..., None], gradient, self.gradient[slots])
        self.cost[slots] = torch.where(current, cost, self.cost[slots])
        self.reads[slots] = torch.where(current, reads, self.reads[slots])

    def _shut(self) -> None:
        if self._window is not None:
            self._place[self._window.slots] = -1
        self._window = None

    def cut(self) -> None:
        """A window ends: mail that crosses its edge carries no graph, whoever read meanwhile."""
        for parcel in self.in_flight:
            parcel.value = parcel.value.detach()

    def discard_window(self) -> None:
        """End the window without counting its reads, where nobody learns from what is over."""
        self._shut()
        self._retired = []

    def _findings(self) -> list[Tensor]:
        """What was found of the mail that lies in the slots."""
        return [self.gradient, self.reads, *([self.cost] if self.charges else [])]

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
        for tensor in (self.value, *self._findings()):
            tensor.zero_()

    def _settlement(self, slots: Index, at: Tensor, mask: Tensor) -> Settlement:
        return Settlement(
            slots,
            self.value.index_select(0, at),
            self.context.index_select(0, at),
            self.gradient.index_select(0, at),
            self.cost.index_select(0, at),
            self.reads.index_select(0, at),
            mask,
            self.sent_at.index_select(0, at),
        )

    def _retire_unread(self, parcel: Parcel, mask: Tensor) -> None:
        value = parcel.value.detach()
        none = torch.zeros(mask.shape, device=mask.device)
        found = (value, parcel.context, torch.zeros_like(value), none, none)
        self._retired.append(Settlement(parcel.slots, *found, mask, self._sent_at(parcel)))

    def _sent_at(self, parcel: Parcel) -> Tensor:
        """``[e, B]``"""
        return self.sent_at.new_tensor(parcel.sent_at).expand(parcel.mask.shape)

    def _tensor(self, index: Index) -> Tensor:
        return torch.from_numpy(index).to(self.value.device)
