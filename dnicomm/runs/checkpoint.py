"""Checkpoints of a run: one safetensors file each, with the facts as JSON in its header.

One file, so that a single rename makes a checkpoint appear. torch and safetensors are imported
inside the functions: a report reads runs without them.
"""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnicomm.errors import UserError
from dnicomm.runs.atomic import TEMPORARY, replacing

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
KEPT = 2


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
    from safetensors.torch import save_file

    text = json.dumps(facts)
    # a copy of each, since safetensors takes neither strides nor tensors that share memory
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    metadata = {"time": str(time), "facts": text, "checksum": _checksum(time, copies, text)}
    folder.mkdir(exist_ok=True)
    target = folder / f"{time:012d}{SUFFIX}"
    with replacing(target) as temporary:
        save_file(copies, temporary, metadata=metadata)
    kept = [path for path in _paths(folder) if path <= target][-KEPT:]
    for path in folder.iterdir():
        if path.name.endswith((SUFFIX, SUFFIX + TEMPORARY)) and path not in kept:
            path.unlink(missing_ok=True)


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there is none at all.

    Warns of damaged ones that it passes over.

    Raises:
        UserError: there are checkpoints, and all of them are damaged.
    """
    damage = []
    for path in reversed(_paths(folder)):
        try:
            checkpoint = _read(path)
        except _Damaged as error:
            damage.append(f"{path} is damaged ({error})")
            continue
        if damage:
            warnings.warn(
                f"{'; '.join(damage)}: going back to time {checkpoint.time}.", stacklevel=2
            )
        return checkpoint
    if damage:
        raise UserError(f"No checkpoint can be read: {'; '.join(damage)}.")
    return None


class _Damaged(Exception):
    pass


def _paths(folder: Path) -> list[Path]:
    """The finished checkpoints, oldest first: the names sort as the times do."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit())


def _read(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # a copy, because what safetensors returns may still be mapped from the file
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        time, text = int(metadata["time"]), metadata["facts"]
        if metadata["checksum"] != _checksum(time, tensors, text):
            raise _Damaged("its content does not fit its checksum")
        return Checkpoint(time, tensors, json.loads(text))
    except (SafetensorError, OSError, ValueError) as error:
        raise _Damaged(error) from error
    except KeyError as error:
        raise _Damaged(f"its header has no {error}") from error


def _checksum(time: int, tensors: Mapping[str, Tensor], facts: str) -> str:
    """safetensors notices a file that is too short, but no changed bytes in it."""
    import torch

    total = zlib.crc32(f"{time} {facts}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return str(total)
