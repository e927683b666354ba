"""Arrays of one time of a run: a safetensors file each, with facts as JSON in its header.

A single rename makes a file appear whole. Arrays are numpy's or torch's; torch and safetensors are
imported inside the functions, for a report reads runs without them.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from dnicomm.errors import UserError
from dnicomm.runs import bounds
from dnicomm.runs.atomic import TEMPORARY, replacing

SUFFIX = ".safetensors"
NAME = re.compile(r"[0-9]{1,18}")
Framework = Literal["np", "pt"]


class DamagedError(Exception):
    """A file that can't be read, or whose content isn't what was written; the message says why."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a file holds: ``arrays`` by name, as they were at world time ``time``."""

    time: int
    arrays: dict[str, Any]
    facts: dict[str, Any]


def write(
    folder: Path,
    time: int,
    arrays: Mapping[str, Any],
    facts: Mapping[str, Any],
    framework: Framework,
) -> Path:
    """Writes the file of ``time`` into ``folder``, in place of an earlier one; where it is.

    Args:
        arrays: contiguous, on the CPU, sharing no memory.

    Raises:
        TypeError: the facts hold something that JSON does not.
        UserError: the file can't be written.
    """
    backend = import_module("safetensors.torch" if framework == "pt" else "safetensors.numpy")
    text = json.dumps(facts)
    checksum = _checksum(time, arrays, text, framework)
    target = folder / f"{time:012d}{SUFFIX}"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be a folder: {error.strerror}") from error
    with replacing(target) as temporary:
        header = {"time": str(time), "facts": text, "checksum": checksum}
        backend.save_file(dict(arrays), temporary, metadata=header)
    return target


def read(path: Path, framework: Framework, most: int) -> Snapshot:
    """What a file holds.

    Args:
        most: bytes that it may have.

    Raises:
        DamagedError: it can't be read, or something in it is not what was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        bounds.open_regular(path, most).close()  # safetensors would wait for a pipe
        with safe_open(path, framework=framework) as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if framework == "pt":  # what safetensors returns may still be mapped from the file
                arrays = {name: tensor.clone() for name, tensor in arrays.items()}
        time, text = int(header["time"]), header["facts"]
        if header["checksum"] != _checksum(time, arrays, text, framework):
            raise DamagedError("its content does not fit its checksum")
        facts = bounds.parse_record(text)
        if facts is None:
            raise DamagedError("its facts are no JSON object")
        return Snapshot(time, arrays, facts)
    except bounds.UnreadableError as error:
        raise DamagedError(str(error).removeprefix(f"{path} ").rstrip(".")) from error
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise DamagedError(_in_a_line(error)) from error
    except KeyError as error:
        raise DamagedError(f"its header has no {error}") from error


def paths(folder: Path) -> list[Path]:
    """The finished files, oldest first: the names sort as the times do.

    Raises:
        UserError: there is something in the folder's place that is none.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is damaged: it is no folder")
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if NAME.fullmatch(path.stem))


def half_written(folder: Path) -> list[Path]:
    """What a kill left behind."""
    return list(folder.glob(f"*{SUFFIX}{TEMPORARY}"))


def remove(files: Iterable[Path]) -> None:
    """Delete files; what has the name of one and can't be deleted stays."""
    for path in files:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _checksum(time: int, arrays: Mapping[str, Any], facts: str, framework: Framework) -> str:
    """safetensors notices a file that is too short, but no changed bytes in it."""
    total = zlib.crc32(f"{time} {facts}".encode())
    for name in sorted(arrays):
        array = arrays[name]
        total = zlib.crc32(f"{name} {array.dtype} {tuple(array.shape)}".encode(), total)
        total = zlib.crc32(_bytes(array, framework), total)
    return str(total)


def _bytes(array: Any, framework: Framework) -> Any:
    """Also of types that numpy has not."""
    if framework == "np":
        return array.tobytes()
    import torch

    return array.reshape(-1).view(torch.uint8).numpy().data
