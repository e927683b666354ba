"""Bounded reads of a run folder's files, for a folder may come from anywhere.

A file is read only if it is a regular one (a pipe or a device would block a read or never end it),
up to a size that says what a run could have written, and it is plain data: of bounded depth,
without references that make much out of little, and without characters that steer a terminal.
Every complaint is one line.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from dnicomm.errors import UserError, one_line

MIB = 2**20
MOST_YAML = 2 * MIB  # it takes seconds to parse; trace clocks of 200,000 ticks
MOST_JSON = 64 * MIB
MOST_METRICS = 512 * MIB  # a run of hundreds of agents writes some 100 KiB an evaluation
MOST_RECORDING = 256 * MIB
MOST_RECORDINGS = 1024 * MIB  # all of a run together
DEPTH = 50  # of mappings and lists in each other; our own have some ten

# escaped characters that a terminal obeys, and numbers too long for a float, as JSON has them
_ODD_JSON = re.compile(
    rb"\\u00(?:0[0-8bcef]|1[0-9a-f]|7f|[89][0-9a-f])|\xc2[\x80-\x9f]|[0-9]{300}", re.IGNORECASE
)
_ODD_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# plain data alone; libyaml's where there is one, which takes a tenth of the time
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


# what using data of another shape than expected ends in
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class UnreadableError(UserError):
    """A file that is no regular one, is too large, or does not hold plain data."""


def open_regular(path: Path, most: int | None = None) -> BinaryIO:
    """Open a regular file for reading; never blocks.

    Args:
        path: of the file; a link to a regular file will do.
        most: bytes it may have; None: any number.

    Raises:
        UnreadableError: it is not there, no regular file, too large, or can't be opened.
    """
    try:
        _check(path, os.stat(path), most)  # before it is opened: that alone may set off a device
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        _check(path, os.fstat(file.fileno()), most)
    except UnreadableError:
        file.close()
        raise
    return file


def read_bytes(path: Path, most: int) -> bytes:
    """Return what a regular file holds.

    Raises:
        UnreadableError: as :func:`open_regular`; or there is more than ``most`` bytes of it,
            whatever size it says it has.
    """
    with open_regular(path, most) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    if content is None or len(content) > most:
        raise UnreadableError(f"{path} cannot be read: it has no end within {_size(most)}.")
    return content


def read_record(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        UnreadableError: it can't be read, or is not a JSON object of plain data.
    """
    record = parse_record(read_bytes(path, MOST_JSON))
    if record is None:
        raise UnreadableError(f"{path} is damaged: not a JSON object.")
    return record


def parse_record(text: bytes | str) -> dict[str, Any] | None:
    """Return the JSON object in ``text``; None if it is none, or not plain data."""
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    try:
        record = json.loads(text)
        if not isinstance(record, dict) or _ODD_JSON.search(text) or not _is_shallow(record):
            return None
        if b"\\ud" in text or b"\\uD" in text:  # half of a pair can't be written again
            json.dumps(record, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):  # not JSON, or not even UTF-8
        return None
    return record


def parse_mapping(path: Path, content: bytes) -> dict[str, Any]:
    """Return the mapping that the YAML of a file holds.

    Tags make nothing but plain data, and nothing is done about interpolations.

    Raises:
        UnreadableError: it is not YAML, not a mapping, too deep, or has references (``*name``),
            by which a few lines can stand for gigabytes.
    """
    try:
        text = content.decode("utf-8")
        _check_events(path, text)
        loader = _LOADER(text)
        try:
            found = loader.get_single_data()
        finally:
            loader.dispose()
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UnreadableError(f"{path} is damaged: {_in_a_line(error)}.") from error
    if not isinstance(found, dict):
        raise UnreadableError(f"{path} is damaged: it is not a mapping.")
    _check_text(path, found)
    return found


@contextmanager
def as_written(what: str) -> Iterator[None]:
    """Within it, what was read from a file of a run is used, as a run writes it.

    Raises:
        UserError: something in it is missing, or of another type.
    """
    try:
        yield
    except UserError:
        raise
    except _DAMAGE as error:
        said = one_line(f"{type(error).__name__}: {error}", 200)
        raise UserError(
            f"{what} is damaged: it does not hold what a run writes ({said})"
        ) from error


def _check(path: Path, facts: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(facts.st_mode)), "no file")
        raise UnreadableError(f"{path} cannot be read: it is {kind}.")
    if most is not None and facts.st_size > most:
        raise UnreadableError(
            f"{path} cannot be read: it has {_size(facts.st_size)}, at most {_size(most)} are read."
        )


def _size(count: int) -> str:
    return f"{count / MIB:,.0f} MiB" if count >= MIB else f"{count:,} bytes"


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH):
        if not level:
            return True
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return False


def _check_events(path: Path, text: str) -> None:
    """Look at YAML as it is parsed, before anything is built from it."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise UnreadableError(
                f"{path} is damaged: line {event.start_mark.line + 1}: references "
                f"(*{event.anchor}) are not read."
            )
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise UnreadableError(
                f"{path} is damaged: line {event.start_mark.line + 1}: more than {DEPTH} levels."
            )


def _check_text(path: Path, found: Mapping[str, Any]) -> None:
    """Refuse text that steers a terminal, and numbers that no float holds."""
    rest: list[Any] = [found]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            rest += value
        elif isinstance(value, str) and _ODD_TEXT.search(value):
            raise UnreadableError(f"{path} is damaged: {ascii(value)[:80]} has control characters.")
        elif isinstance(value, int) and value.bit_length() > 1000:
            raise UnreadableError(f"{path} is damaged: a number has more than 300 digits.")


def _in_a_line(error: Exception) -> str:
    """What is wrong with a file, and where, without the parser's picture of it."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.MarkedYAMLError) and mark is not None:
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error).partition("\n")[0] or type(error).__name__
