"""Which run folders are this machine's own: their configuration is signed with a secret key.

The key lies in the user's cache folder (``$XDG_CACHE_HOME/dnicomm/key``, else
``~/.cache/dnicomm/key``), readable by the user alone, and is made by the first run. What is signed
is the content of ``config.yaml`` and not where it lies, so that a folder may be copied and renamed;
a changed configuration no longer fits. The rest of a folder is plain data, from which nothing is
imported. Whoever can read the key can write folders that count as own.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from dnicomm.errors import UserError

KEY, KEY_BYTES = "key", 32
SCHEME = "hmac-sha256"
PURPOSE = b"dnicomm run configuration\n"  # a signature is good for nothing else


class NoKeyError(UserError):
    """There is no key to sign with, and none can be made; the message says why, in a line."""


def cache_folder() -> Path:
    """Return the user's cache folder for dnicomm, which may not exist.

    Raises:
        NoKeyError: there is no home.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    except RuntimeError as error:
        raise NoKeyError("there is no home folder to keep a key in") from error
    return root / "dnicomm"


def sign(content: bytes) -> str:
    """Return the signature of a configuration; makes the key where there is none.

    Raises:
        NoKeyError: there is none and none can be made.
    """
    return _signature(_key() or _make_key(), content)


def is_signed(content: bytes, signature: object) -> bool:
    """Whether a configuration was signed by this user on this machine; makes no key.

    Raises:
        NoKeyError: the key can't be read.
    """
    key = _key()
    if key is None or not isinstance(signature, str):
        return False
    return hmac.compare_digest(_signature(key, content).encode(), signature.encode())


def _signature(key: bytes, content: bytes) -> str:
    return f"{SCHEME}:{hmac.new(key, PURPOSE + content, hashlib.sha256).hexdigest()}"


def _key() -> bytes | None:
    """Return the key, None where there is none.

    Raises:
        NoKeyError: it can't be read, is not one, or is not the user's alone.
    """
    path = cache_folder() / KEY
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NoKeyError(f"the key {path} cannot be read: {error.strerror}") from error
    try:
        facts = os.fstat(descriptor)
        key = os.read(descriptor, KEY_BYTES + 1) if stat.S_ISREG(facts.st_mode) else b""
    except OSError as error:
        raise NoKeyError(f"the key {path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise NoKeyError(f"the key {path} is damaged; delete it, and the next run makes another")
    if os.name != "nt" and (facts.st_uid != os.geteuid() or facts.st_mode & 0o077):
        raise NoKeyError(
            f"the key {path} is not the user's alone; delete it, and the next run makes another"
        )
    return key


def _make_key() -> bytes:
    """Make the key and return it; where another process was quicker, its key."""
    folder = cache_folder()
    temporary = folder / f"{KEY}.{os.getpid()}.{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            with contextlib.suppress(FileExistsError):
                _place(temporary, folder / KEY)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NoKeyError(f"no key can be kept in {folder}: {reason}") from error
    key = _key()
    if key is None:
        raise NoKeyError(f"no key can be kept in {folder}: it is gone again")
    return key


def _place(temporary: Path, path: Path) -> None:
    """Give the whole file its name, if that is free.

    Raises:
        FileExistsError: it is not.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: two first runs at one moment may disagree
        if path.exists():
            raise FileExistsError from None
        temporary.replace(path)
