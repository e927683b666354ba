"""What the checks share: complaints collected, and parts of a check that may raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dnicomm.errors import error_line, user_frame


class Stop(Exception):
    """Nothing further can be checked."""


class Complaints(list[str]):
    """A list of complaints, each once."""

    def add(self, complaint: str) -> None:
        if complaint not in self:
            self.append(complaint)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """A part of a check: what it raises is a complaint, and ends the check.

        Raises:
            Stop: if the part raised something, or stopped.
        """
        try:
            yield
        except Stop:
            raise
        except Exception as error:
            self.add(f"{what}: {error_line(error)}{user_frame(error) or ''}")
            raise Stop from error

    def fail(self, complaint: str) -> None:
        """Add a complaint that ends the check.

        Raises:
            Stop: always.
        """
        self.add(complaint)
        raise Stop

    def check_tensor(
        self,
        what: str,
        value: Any,
        shape: tuple[int, ...],
        dtype: torch.dtype | None = torch.float32,
    ) -> bool:
        """Complain about what is no tensor of this shape and dtype, or is not finite."""
        if not isinstance(value, Tensor):
            self.add(f"{what} is a {type(value).__name__}; it must be a tensor {list(shape)}")
            return False
        if tuple(value.shape) != shape:
            self.add(f"{what} has shape {list(value.shape)}; it must be {list(shape)}")
            return False
        if dtype is not None and value.dtype != dtype:
            self.add(f"{what} is {plain(value.dtype)}; it must be {plain(dtype)}")
            return False
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            self.add(f"{what} has numbers in it that are not finite")
            return False
        return True


def plain(dtype: torch.dtype) -> str:
    """``float32`` rather than ``torch.float32``."""
    return str(dtype).removeprefix("torch.")
