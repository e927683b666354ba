"""Recordings: what happened in one world of one episode, as columns of numbers, one file each.

A safetensors file, whose columns are tensors of one dimension (vectors of messages: of two) and
whose header holds the facts as JSON. ``dnicomm.sim`` says
which columns there are (``episode_recording.py``).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnicomm.runs.atomic import TEMPORARY, replacing

SUFFIX = ".safetensors"
Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Recording:
    """What happened until ``time``, the world time of the evaluation that followed."""

    time: int
    columns: Columns  # by name
    facts: dict[str, Any]


def save(folder: Path, time: int, columns: Columns, facts: Mapping[str, Any]) -> None:
    """Writes the recording of ``time`` into ``folder``, in place of an earlier one.

    Raises:
        TypeError: the facts hold something that JSON does not.
    """
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(values) for name, values in columns.items()}
    text = json.dumps(facts)
    metadata = {"time": str(time), "facts": text, "checksum": _checksum(time, arrays, text)}
    folder.mkdir(exist_ok=True)
    with replacing(folder / f"{time:012d}{SUFFIX}") as temporary:
        save_file(arrays, temporary, metadata=metadata)


def load(folder: Path) -> tuple[list[Recording], list[str]]:
    """The recordings, oldest first, and a sentence for each that is damaged and left out."""
    found, damage = [], []
    for path in _paths(folder):
        try:
            found.append(_read(path))
        except _Damaged as error:
            damage.append(f"{path} is damaged and left out: {error}.")
    return found, damage


def drop_after(folder: Path, time: int) -> None:
    """Deletes the recordings of times after ``time``, and what a kill left half written."""
    for path in _paths(folder):
        if int(path.stem) > time:
            path.unlink(missing_ok=True)
    for path in folder.glob(f"*{SUFFIX}{TEMPORARY}"):
        path.unlink(missing_ok=True)


class _Damaged(Exception):
    pass


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit())


def _read(path: Path) -> Recording:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        time, text = int(metadata["time"]), metadata["facts"]
        if metadata["checksum"] != _checksum(time, columns, text):
            raise _Damaged("its content does not fit its checksum")
        return Recording(time, columns, json.loads(text))
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise _Damaged(str(error)) from error
    except KeyError as error:
        raise _Damaged(f"its header has no {error}") from error


def _checksum(time: int, columns: Columns, facts: str) -> str:
    total = zlib.crc32(f"{time} {facts}".encode())
    for name in sorted(columns):
        values = columns[name]
        total = zlib.crc32(f"{name} {values.dtype} {values.shape}".encode(), total)
        total = zlib.crc32(values.tobytes(), total)
    return str(total)
