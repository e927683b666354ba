"""Memory that a run gives back and asks for again a moment later."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's names for mallopt


def keep_freed_memory() -> bool:
    """Let this process keep what large tensors free, instead of giving it back to the system.

    Tensors of many agents live for one unit of world time. By default glibc maps each large one
    anew, and the system clears its pages each time, which takes longer than to fill them. Whether
    the system's allocator knows how.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
