"""Files that are there whole or not at all, whatever moment the process is killed at.

Nothing is written through a link: in a folder that somebody else made, it could lead anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnicomm.errors import UserError

TEMPORARY = ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path; the file written there becomes ``path`` when the block ends.

    Where the block raises, ``path`` stays as it was.

    Raises:
        UserError: the file can't be written, or something that is no file has its name.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        # what lies there may be a link that somebody put there; ours is a new file
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # else a power cut may leave the new name without content
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Writes a whole file."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
