"""Running sums on the device, read between episodes: channels' and agents' own figures."""

from __future__ import annotations

import torch
from torch import Tensor

from dnicomm.sim.parcel import Settlement


class _Meter:
    """Sums by row, with names; all are zero after :meth:`reset`."""

    names: tuple[str, ...] = ()

    def __init__(self, rows: int, device: torch.device) -> None:
        self.sums = {name: torch.zeros(rows, device=device) for name in self.names}

    def add(self, name: str, rows: Tensor | None, values: Tensor) -> None:
        """Add ``values`` ``[n]`` to ``rows`` ``[n]`` (None: all)."""
        if rows is None:
            self.sums[name] += values
        else:
            self.sums[name].index_add_(0, rows, values.to(self.sums[name].dtype))

    def reset(self) -> None:
        """Begin a new interval."""
        for total in self.sums.values():
            total.zero_()

    def _ratio(self, row: int, top: str, bottom: str) -> float | None:
        below = self.sums[bottom][row].item()
        return self.sums[top][row].item() / below if below else None


class ChannelMeter(_Meter):
    """What became of a channel's messages, and how well its utility model foresaw it."""

    names = (
        "settled", "read", "reads", "age", "compared",
        "cosine", "error", "synthetic_norm", "target_norm",
    )  # fmt: skip

    def settle(self, rows: Tensor, s: Settlement, synthetic: Tensor | None) -> None:
        """Count settled messages; ``synthetic`` ``[e, B, D]`` is what the model said of them."""
        was_read = s.mask & (s.reads > 0)
        self.add("settled", rows, s.mask.sum(1))
        self.add("read", rows, was_read.sum(1))
        if synthetic is None:
            return
        true = torch.linalg.vector_norm(s.gradient, dim=-1)  # [e, B]
        said = torch.linalg.vector_norm(synthetic, dim=-1)
        # nothing to compare where there was no gradient, or nothing was foreseen
        good = was_read & torch.isfinite(true * said) & (true > 0) & (said > 0)
        product = (s.gradient * synthetic).sum(-1) / true / said
        error = torch.linalg.vector_norm(synthetic - s.gradient, dim=-1)
        self.add("compared", rows, good.sum(1))
        self.add("cosine", rows, torch.where(good, product, 0.0).sum(1))
        self.add("error", rows, torch.where(good, error, 0.0).sum(1))
        self.add("synthetic_norm", rows, torch.where(good, said, 0.0).sum(1))
        self.add("target_norm", rows, torch.where(good, true, 0.0).sum(1))

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
