"""Checkpoints of a run: the newest two, each a file of tensors and facts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnicomm.errors import UserError
from dnicomm.runs import snapshot

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
UNKNOWN_MEMORY = 64 * 2**30  # taken for a machine's where it doesn't say


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run as it was at world time ``time``."""

    time: int
    tensors: dict[str, Tensor]  # on the CPU, sharing no memory with each other
    facts: dict[str, Any]


def save(folder: Path, time: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes the checkpoint of ``time`` into ``folder``, then deletes all but it and the last one.

    Checkpoints of later times are deleted too: a run that saves at ``time`` has not got there, so
    they are damaged ones it had to go back behind.

    Raises:
        TypeError: the facts hold something that JSON does not.
    """
    import torch

    # a copy of each, since safetensors takes neither strides nor tensors that share memory
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    target = snapshot.write(folder, time, copies, facts, "pt")
    there = snapshot.paths(folder)
    kept = [path for path in there if path <= target][-KEPT:]
    dropped = (path for path in there if path not in kept)
    snapshot.remove([*dropped, *snapshot.half_written(folder)])


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there is none at all.

    Warns of damaged ones that it passes over.

    Raises:
        UserError: there are checkpoints, and all of them are damaged.
    """
    damage = []
    for path in reversed(snapshot.paths(folder)):
        try:
            held = snapshot.read(path, "pt", _memory())
        except snapshot.DamagedError as error:
            damage.append(f"{path} is damaged ({error})")
            continue
        if damage:
            warnings.warn(f"{'; '.join(damage)}: going back to time {held.time}.", stacklevel=2)
        return Checkpoint(held.time, held.arrays, held.facts)
    if damage:
        raise UserError(f"No checkpoint can be read: {'; '.join(damage)}.")
    return None


def _memory() -> int:
    """Bytes of this machine's memory: no checkpoint that a run here took is larger."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return UNKNOWN_MEMORY
