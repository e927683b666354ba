"""Where the time goes: stretches of the code with names, for whoever is watching.

Nobody is, as a rule: then a stage costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

# what a simulation spends its time on; what is left is the engine's own
STAGES = (
    "observe", "deliver", "tick", "feedback", "world", "backward", "optimiser", "settle",
)  # fmt: skip

Watcher = Callable[[str], AbstractContextManager[object]]

_NOBODY: AbstractContextManager[object] = nullcontext()
_watcher: Watcher | None = None


def stage(name: str) -> AbstractContextManager[object]:
    """Within, whoever watches counts time for ``name`` and for no stage around it."""
    return _NOBODY if _watcher is None else _watcher(name)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Within, ``watcher`` is told of every stage."""
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before
