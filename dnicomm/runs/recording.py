"""Recordings: what happened in one world of one episode, as columns of numbers, one file each.

Columns have one dimension (vectors of messages: two). ``dnicomm.sim`` says which there are
(``episode_recording.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnicomm.errors import UserError
from dnicomm.runs import snapshot
from dnicomm.runs.bounds import MOST_RECORDING, MOST_RECORDINGS

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
    arrays = {name: np.ascontiguousarray(values) for name, values in columns.items()}
    snapshot.write(folder, time, arrays, facts, "np")


def load(folder: Path) -> tuple[list[Recording], list[str]]:
    """The recordings, oldest first, and a sentence for each that is damaged and left out."""
    found, damage = [], []
    try:
        paths = snapshot.paths(folder)
    except UserError as error:
        return [], [f"{error}; there are no recordings to show."]
    read = 0
    for path in paths:
        try:
            held = snapshot.read(path, "np", min(MOST_RECORDING, MOST_RECORDINGS - read))
            read += path.stat().st_size
        except snapshot.DamagedError as error:
            damage.append(f"{path} is damaged and left out: {error}.")
            continue
        found.append(Recording(held.time, held.arrays, held.facts))
    return found, damage


def drop_after(folder: Path, time: int) -> None:
    """Deletes the recordings of times after ``time``, and what a kill left half written."""
    later = [path for path in snapshot.paths(folder) if int(path.stem) > time]
    snapshot.remove([*later, *snapshot.half_written(folder)])
