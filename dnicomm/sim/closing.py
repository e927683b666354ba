"""Close what holds processes, ports, windows or licences: each thing once, whatever happens."""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from dnicomm.errors import UserError
from dnicomm.sim.notices import notify


class Closable(Protocol):
    """Anything with a ``close()``."""

    def close(self) -> Any: ...


Thing = TypeVar("Thing")
Owner = TypeVar("Owner", bound=Closable)


class GivenUp(KeyboardInterrupt):
    """A second Ctrl-C while things are closed: the rest is left open."""


class OpenThings:
    """Things that have a ``close()``, to be closed together.

    As a context manager it closes them only where the block raises, so that what a constructor has
    opened is not lost when the rest of it fails::

        with OpenThings() as opened:
            first, second = opened.add(open_port(), "first"), opened.add(open_port(), "second")
            return Server(first, second, opened)  # which closes them later
    """

    def __init__(self) -> None:
        self._open: dict[int, tuple[Any, str]] = {}  # by identity, in order
        self._process = os.getpid()
        self.closed = False

    def add(self, thing: Thing, name: str) -> Thing:
        """Close ``thing`` with the others, unless it is among them already; return it.

        Args:
            thing: what is open; without a ``close()`` there is nothing to do.
            name: what messages call it.
        """
        self._open.setdefault(id(thing), (thing, name))
        return thing

    def close(self) -> None:
        """Close what is open, in the order in which it was opened.

        What a ``close()`` raises is printed in one line, and the others are closed all the same. So
        they are after Ctrl-C, which is raised at the end; a second Ctrl-C gives up the rest. In a
        process that was forked off nothing is closed: it belongs to the one that opened it.
        """
        self.closed = True
        if os.getpid() != self._process:
            self._open.clear()
        interrupt: KeyboardInterrupt | None = None
        while self._open:
            thing, name = self._open.pop(next(iter(self._open)))  # first: nothing is closed twice
            try:
                if hasattr(thing, "close"):
                    thing.close()
            except KeyboardInterrupt as stop:
                if interrupt is not None or isinstance(stop, GivenUp):
                    self._give_up(name)
                    raise GivenUp from stop
                interrupt = stop
            except BaseException as error:  # sys.exit() too: others are still to be closed
                notify(f"{name}: close() raised {_one_line(error)}")
        if interrupt is not None:
            raise interrupt

    def _give_up(self, name: str) -> None:
        left = len(self._open)
        self._open.clear()
        more = f", nor were {left} more" if left else ""
        notify(f"{name}: close() was stopped{more}")

    def __enter__(self) -> OpenThings:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.close_after(error)

    def close_when_dropped(self, owner: object) -> None:
        """Close what is open when ``owner`` is dropped, or the interpreter exits."""
        weakref.finalize(owner, self._close_unattended)

    def _close_unattended(self) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # there is nobody to raise it to
            self.close()

    def close_after(self, error: BaseException | None) -> None:
        """Close what is open; where that is because of an error, it remains the error."""
        with contextlib.nullcontext() if error is None else contextlib.suppress(KeyboardInterrupt):
            self.close()


class ClosesThings:
    """An object that owns open things, closed by :meth:`close`, by ``with``, or when it is dropped.

    Attributes:
        opened: what is closed with it.
    """

    @functools.cached_property
    def opened(self) -> OpenThings:
        opened = OpenThings()
        opened.close_when_dropped(self)
        return opened

    def close(self) -> None:
        """Close it; a second time does nothing. What is raised by that is printed in one line."""
        self.opened.close()

    def require_open(self) -> None:
        """Raise a UserError if it is closed."""
        if self.opened.closed:
            raise UserError(f"this {type(self).__name__.lower()} is closed: it can't go on")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.opened.close_after(error)


@contextlib.contextmanager
def closing(owner: Owner) -> Iterator[Owner]:
    """Close ``owner`` at the end of the block; what the block raises remains the error."""
    try:
        yield owner
    except BaseException:
        with contextlib.suppress(KeyboardInterrupt):
            owner.close()
        raise
    owner.close()


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
