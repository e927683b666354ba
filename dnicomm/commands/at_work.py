"""What holds while a process is at work on a run: threads, the lock, and what it leaves."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from dnicomm.errors import UserError
from dnicomm.runs.bounds import open_regular
from dnicomm.sim.allocator import keep_freed_memory
from dnicomm.sim.torch_threads import torch_threads


class Stopped(KeyboardInterrupt):
    """The user stopped a run that can go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"stopped; go on with: dnicomm resume {quoted(folder)}")


@contextlib.contextmanager
def at_work(folder: Path, count: int) -> Iterator[None]:
    """Torch's threads set, and a stop by the user told how to go on.

    Raises:
        Stopped: if the user stops it.
    """
    with threads(count):
        try:
            yield
        except KeyboardInterrupt:
            raise Stopped(folder) from None


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch's threads on the CPU; results depend on them. Freed memory is kept from now on."""
    keep_freed_memory()
    with torch_threads(count):
        yield


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the same run; the system lets go when this one dies.

    Raises:
        UserError: if another one is at work on it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with open_regular(folder / "run.json") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{folder}: another process is at work on this run") from None
        yield


def discard(folder: Path) -> None:
    """Remove the files of a run that failed before its first evaluation, and no others."""
    if not any((folder / name).exists() for name in ("metrics.jsonl", "checkpoints")):
        for name in ("config.yaml", "run.json"):
            (folder / name).unlink(missing_ok=True)


def quoted(path: Path) -> str:
    """A path for the shell, short where it lies below the working folder."""
    with contextlib.suppress(ValueError):
        path = path.absolute().relative_to(Path.cwd())
    return shlex.quote(str(path))
