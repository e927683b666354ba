"""What is read in one open window, and by which reads: the messages' side of a backward pass.

Inside a window the values of the slots are part of the window's graph: each delivery adds a
*version* with its own leaf, and autograd sorts out which version a read belonged to. Which version
lies where is a number of a row: all versions of a window stand one below the other in one table,
so that what the reads found is summed in one pass over the reads, however many versions there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dnicomm.sim.parcel import Index


@dataclass
class Version:
    """What was put into some slots of an open window, by one delivery (or before it opened)."""

    start: int  # its first row in the table
    positions: Tensor | None  # [v] in the window; None: all
    leaf: Tensor  # [v, B, D] collects the gradient of its reads
    mask: Tensor | None  # [v, B] where there is a message; None: everywhere
    context: Tensor | None  # [v, B, C]; None for what was there before, kept in the mailbox
    sent_at: Tensor  # [v, B] world time


@dataclass
class Found:
    """What the reads of one version found."""

    version: Version
    gradient: Tensor | None  # [v, B, D]; None: there was none
    cost: Tensor  # [v, B]
    reads: Tensor  # [v, B]
    current: Tensor | None  # [v, B] bool, where it still lies at the end; None: everywhere


@dataclass
class Read:
    positions: Tensor | None  # [r] slots in the window; None: all
    rows: Tensor | None  # [r, B] which version was read; None: the first
    mask: Tensor  # [r, B] there was one, and its reader was active


class MailWindow:
    """The slots of some members while their window is open.

    Args:
        members: ``[n]`` of the population.
        slots: ``[w]`` theirs, and ``at`` the same on the device.
        leaf: ``[w, B, D]`` what lies there now.
        sent_at: ``[w, B]`` world time at which that was sent; -1 where there is no message.
    """

    def __init__(
        self, members: Index, slots: Index, at: Tensor, leaf: Tensor, sent_at: Tensor
    ) -> None:
        self.members, self.slots, self.at = members, slots, at
        self.values = leaf.requires_grad_()  # [w, B, D] in the graph
        self.versions = [Version(0, None, self.values, sent_at >= 0, None, sent_at)]
        self._rows: Tensor | None = None  # [w, B] of the versions that lie there; None: the first
        self._size = len(slots)  # of the table
        self.reads: list[Read] = []

    def put(
        self,
        positions: Tensor,
        value: Tensor,
        mask: Tensor | None,
        context: Tensor,
        sent_at: Tensor,
    ) -> None:
        """A delivery ``[v, B, …]``; ``value`` may be part of the sender's graph."""
        if value.requires_grad:  # exact feedback: the sender's graph goes on
            leaf = value * 1
            leaf.retain_grad()
        else:
            leaf = value.detach().requires_grad_()
        version = Version(self._size, positions, leaf, mask, context, sent_at)
        self._size += len(positions)
        self.versions.append(version)
        rows = self._all_rows()
        new, fresh = leaf, self._rows_of(version)
        if mask is not None:
            new = torch.where(mask[..., None], leaf, self.values[positions])
            fresh = torch.where(mask, fresh, rows[positions])
        self.values = self.values.index_copy(0, positions, new)
        # out of place: earlier reads hold what lay there then
        self._rows = rows.index_copy(0, positions, fresh)

    def read(self, positions: Tensor | None, mask: Tensor) -> Tensor:
        """A read of some slots (None: all) where ``mask`` ``[r, B]``; the values ``[r, B, D]``."""
        rows = self._rows
        if rows is not None and positions is not None:
            rows = rows[positions]
        self.reads.append(Read(positions, rows, mask))
        return self.values if positions is None else self.values[positions]

    def found(
        self, costs: Sequence[Tensor] | None, inputs: int, first_only: bool, before: Tensor
    ) -> Iterator[Found]:
        """What came out for each version, once the window was backpropagated.

        Args:
            costs: for each read in order, the reader's loss there, ``[n, B]``; None: nothing is
                charged.
            inputs: K, slots of each member.
            first_only: whether a message is charged for its first read alone.
            before: ``[w, B]`` reads of the first version before this window.
        """
        worlds = before.shape[1]
        cost = before.new_zeros(self._size, worlds)
        reads = before.new_zeros(self._size, worlds)
        charged = [None] * len(self.reads) if costs is None else costs
        for read, paid in zip(self.reads, charged, strict=True):
            if paid is not None:
                paid = paid.detach().repeat_interleave(inputs, 0)
                pays = read.mask
                if first_only:
                    pays = pays & (self._so_far(reads, before, read) == 0)
                _add(cost, read, torch.where(pays, paid, 0.0))
            _add(reads, read, read.mask.to(reads.dtype))
        for version in self.versions:
            size = len(version.leaf)
            part = slice(version.start, version.start + size)
            grad = version.leaf.grad
            yield Found(
                version,
                None if grad is None else grad.detach(),
                cost[part],
                reads[part],
                self._current(version),
            )

    def _so_far(self, reads: Tensor, before: Tensor, read: Read) -> Tensor:
        """How often what a read found had been read before it, ``[r, B]``."""
        at = slice(None) if read.positions is None else read.positions
        if read.rows is None:
            return reads[: len(self.slots)][at] + before[at]
        first = read.rows < len(self.slots)
        return reads.gather(0, read.rows) + torch.where(first, before[at], 0.0)

    def _current(self, version: Version) -> Tensor | None:
        if self._rows is None:
            return None
        lying = self._rows if version.positions is None else self._rows[version.positions]
        current = lying == self._rows_of(version)
        return current if version.mask is None else current & version.mask

    def _all_rows(self) -> Tensor:
        if self._rows is None:
            return self._rows_of(self.versions[0])
        return self._rows

    def _rows_of(self, version: Version) -> Tensor:
        size, worlds = version.leaf.shape[:2]
        numbers = torch.arange(version.start, version.start + size, device=version.leaf.device)
        return numbers[:, None].expand(size, worlds)


def _add(table: Tensor, read: Read, values: Tensor) -> None:
    """Add ``values`` ``[r, B]`` to the rows of a table ``[…, B]`` that a read is about."""
    if read.rows is not None:
        table.scatter_add_(0, read.rows, values)
    elif read.positions is None:
        table[: len(values)] += values
    else:
        table.index_add_(0, read.positions, values)
