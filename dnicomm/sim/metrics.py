"""Running sums on the device, read between episodes: channels' and agents' own figures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dnicomm.sim.parcel import Settlement


class _Meter:
    """Sums by row, with names; all are zero after :meth:`reset`."""

    names: tuple[str, ...] = ()

    def __init__(self, rows: int, device: torch.device) -> None:
        self._table = torch.zeros(rows, len(self.names), device=device)
        self.sums = dict(zip(self.names, self._table.unbind(1), strict=True))  # [rows] each

    def add(self, name: str, rows: Tensor | None, values: Tensor) -> None:
        """Add ``values`` ``[n]`` to ``rows`` ``[n]`` (None: all)."""
        if rows is None:
            self.sums[name] += values
        else:
            self.sums[name].index_add_(0, rows, values.to(self._table.dtype))

    def add_first(self, rows: Tensor, values: Tensor) -> None:
        """Add ``values`` ``[n, k]`` to the first k figures of ``rows`` ``[n]``."""
        self._table[:, : values.shape[1]].index_add_(0, rows, values.to(self._table.dtype))

    def reset(self) -> None:
        """Begin a new interval."""
        self._table.zero_()

    def _ratio(self, row: int, top: str, bottom: str) -> float | None:
        below = self.sums[bottom][row].item()
        return self.sums[top][row].item() / below if below else None


class ChannelMeter(_Meter):
    """What became of a channel's messages, and how well its utility model foresaw it."""

    names = (
        "settled", "read", "compared", "cosine", "error", "synthetic_norm", "target_norm",
        "reads", "age",  # the last two are summed by count_reads
    )  # fmt: skip

    def count_reads(self, members: Tensor, read: Tensor, age: Tensor) -> None:
        """Count what ``members`` ``[n]`` read, where ``read`` ``[n, B, K]``, and how old it was."""
        read = read.to(self._table.dtype)
        sums = torch.stack([read, age * read], -1).sum(1)  # [n, K, 2]
        by_member = self._table[:, -2:].view(-1, read.shape[-1], 2)
        by_member.index_add_(0, members, sums)

    def settle(self, rows: Tensor, s: Settlement, synthetic: Tensor | None) -> None:
        """Count settled messages; ``synthetic`` ``[e, B, D]`` is what the model said of them."""
        if synthetic is None:
            self.add_first(rows, torch.stack([s.mask, s.was_read], -1).sum(1))
            return
        true = torch.linalg.vector_norm(s.gradient, dim=-1)  # [e, B]
        said = torch.linalg.vector_norm(synthetic, dim=-1)
        both = true * said
        # nothing to compare where there was no gradient, or nothing was foreseen
        good = s.was_read & (both > 0) & (both < math.inf)
        cosine = (s.gradient * synthetic).sum(-1) / both
        error = torch.linalg.vector_norm(synthetic - s.gradient, dim=-1)
        counts = torch.stack([s.mask, s.was_read, good]).to(true.dtype)  # [3, e, B]
        compared = torch.where(good, torch.stack([cosine, error, said, true]), 0.0)  # [4, e, B]
        self.add_first(rows, torch.cat([counts, compared]).sum(-1).t())

    def summary(self, row: int) -> dict[str, float | int | None]:
        """Figures of one channel since the last reset; None where there is nothing to say."""
        return {
            "cosine": self._ratio(row, "cosine", "compared"),
            # a ratio of sums: a target that is a rounding error must not count for all the others
            "relative_error": self._ratio(row, "error", "target_norm"),
            "synthetic_norm": self._ratio(row, "synthetic_norm", "compared"),
            "target_norm": self._ratio(row, "target_norm", "compared"),
            "age": self._ratio(row, "age", "reads"),
            "share_read": self._ratio(row, "read", "settled"),
            "settled": int(self.sums["settled"][row].item()),
        }


class AgentMeter(_Meter):
    """Loss and reward of each agent."""

    names = ("loss", "losses", "reward", "rewards", "bad_messages")

    def summary(self, row: int) -> dict[str, float | int | None]:
        """Figures of one agent since the last reset."""
        return {
            "loss": self._ratio(row, "loss", "losses"),
            "reward": self._ratio(row, "reward", "rewards"),
            "bad_messages": int(self.sums["bad_messages"][row].item()),
        }
