"""The folder of one run: configuration, metrics, summary, checkpoints, recordings.

======================  ======================================================================
``config.yaml``         the configuration; its being there makes the folder a run
``run.json``            ``format_version`` of the folder, ``signature`` of ``config.yaml``
``metrics.jsonl``       one JSON object an evaluation, in the order of their ``time``
``summary.json``        what came out, once the run has ended
``checkpoints/``        the last two checkpoints
``recordings/``         what happened in one world of some episodes
``communication.json``  metrics of communication, where somebody asked for them
======================  ======================================================================

All of it is plain data: reading a folder runs no code from it, and takes bounded time and memory
(:mod:`dnicomm.runs.bounds`). What is built from a configuration later does run what it names; the
signature says whether a run of this user wrote it. Numbers that are not finite are written as null,
because JSON has no others.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from dnicomm.errors import UserError
from dnicomm.runs import bounds, checkpoint, recording, signature
from dnicomm.runs.atomic import sync_folder, write_text

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
CONFIG, RUN, METRICS, SUMMARY, CHECKPOINTS, RECORDINGS, COMMUNICATION = (
    "config.yaml",
    "run.json",
    "metrics.jsonl",
    "summary.json",
    "checkpoints",
    "recordings",
    "communication.json",
)


# sections of an evaluation, and how many names stand before each number in them
LEVELS = {"metrics": 1, "channels": 2, "agents": 2}


class RunFolder:
    """An existing run; ``RunFolder(path)`` is ``RunFolder.open(path)``. One process writes it.

    Attributes:
        path: the folder.
        config: the configuration.
        followers: called with each evaluation that is added, once it is on disk, as it reads there.
        is_own: whether a run of this user wrote the configuration as it is now.
        foreign: why it does not count as own, in a clause; "" where it does.
    """

    path: Path
    config: dict[str, Any]
    is_own: bool
    foreign: str
    followers: list[Callable[[dict[str, Any]], None]]

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        facts = _read_facts(self.path)
        content = bounds.read_bytes(self.path / CONFIG, bounds.MOST_YAML)
        self.config = bounds.parse_mapping(self.path / CONFIG, content)
        self.foreign = _why_foreign(content, facts.get("signature"))
        self.is_own = not self.foreign
        self.followers = []

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any] | DictConfig) -> RunFolder:
        """Makes a new run at ``path``, which may exist and hold other files.

        ``config`` holds what YAML does: mappings, lists, strings, numbers, booleans, None.
        Interpolations are kept as they are written. Where the configuration can't be signed, the
        run is made all the same, and ``foreign`` says why.

        Raises:
            UserError: ``path`` already holds a run, or cannot be made a folder; or the
                configuration is too large to be read again.
        """
        path = Path(path)
        content = OmegaConf.to_yaml(OmegaConf.create(config)).encode("utf-8")
        if len(content) > bounds.MOST_YAML:
            raise UserError(
                f"{path / CONFIG}: the configuration is larger than "
                f"{bounds.MOST_YAML // bounds.MIB} MiB, which is not read again"
            )
        for name in (CONFIG, METRICS, SUMMARY, CHECKPOINTS, RECORDINGS):
            if os.path.lexists(path / name):
                raise UserError(
                    f"{path} already holds a run (it has {name}), and nothing is written over. "
                    "Choose another folder."
                )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path} cannot be a run folder: {error.strerror}.") from error
        facts: dict[str, Any] = {"format_version": FORMAT_VERSION}
        problem = ""
        try:
            facts["signature"] = signature.sign(content)
        except signature.NoKeyError as error:
            problem = str(error)
        write_text(path / RUN, json.dumps(facts) + "\n")
        write_text(path / CONFIG, content.decode("utf-8"))  # last: now it is a run
        run = cls(path)
        run.foreign = problem or run.foreign
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The run at ``path``.

        Raises:
            UserError: ``path`` does not exist, is not a run folder, was written by a newer
                dnicomm, or its configuration is damaged.
        """
        return cls(path)

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Adds one evaluation; on disk when this returns. ``record["time"]`` is its world time."""
        line = _to_json(record) + "\n"
        path = self.path / METRICS
        is_new = not path.exists()
        if not is_new and not _ends_with_newline(path):
            self._write_metrics(self.metrics())  # else the torn line would end up in the middle
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.") from error
        if is_new:
            sync_folder(self.path)
        for follower in self.followers:
            follower(json.loads(line))

    def metrics(self) -> list[dict[str, Any]]:
        """All evaluations, oldest first. A last line that was torn by a kill is passed over.

        Raises:
            UserError: another line is damaged.
        """
        path = self.path / METRICS
        if not path.exists():
            return []
        *lines, unfinished = bounds.read_bytes(path, bounds.MOST_METRICS).split(b"\n")
        records = []
        for number, line in enumerate(lines, start=1):
            record = bounds.parse_record(line)
            if record is None:
                raise UserError(f"{path}, line {number} is damaged: not a JSON object.")
            records.append(record)
        last = bounds.parse_record(unfinished)  # whole where only its newline is missing
        return records if last is None else [*records, last]

    def truncate_metrics(self, time: int, needed: Iterable[str] = ()) -> None:
        """Drops the evaluations after world time ``time``, as a run that resumes there has to.

        Args:
            needed: keys that an evaluation must have: numbers, in sections by name.

        Raises:
            UserError: a line is damaged: it has no ``time``, or lacks something needed.
        """
        records = self.metrics()
        for number, record in enumerate(records, start=1):
            place = f"{self.path / METRICS}, line {number} is damaged"
            if type(record.get("time")) is not int:
                raise UserError(f"{place}: no time.")
            for key in needed:
                if not _is_measured(record.get(key), LEVELS.get(key, 0)):
                    wanted = "numbers by name" if key in LEVELS else "a number"
                    raise UserError(f"{place}: {key} is not {wanted}, or missing.")
        self._write_metrics([record for record in records if record["time"] <= time])

    def _write_metrics(self, records: list[dict[str, Any]]) -> None:
        write_text(self.path / METRICS, "".join(_to_json(record) + "\n" for record in records))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes what came out of the run, in place of an earlier summary."""
        write_text(self.path / SUMMARY, _to_json(summary, indent=2) + "\n")

    def summary(self) -> dict[str, Any] | None:
        """What came out of the run; None before it has ended.

        Raises:
            UserError: the file is damaged.
        """
        path = self.path / SUMMARY
        return bounds.read_record(path) if path.exists() else None

    def write_communication(self, found: Mapping[str, Any]) -> None:
        """Writes what was measured of the communication, in place of an earlier measurement."""
        write_text(self.path / COMMUNICATION, _to_json(found, indent=2) + "\n")

    def save_checkpoint(
        self, time: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> None:
        """Keeps the state of world time ``time``; a kill at any moment leaves the one before.

        ``tensors`` may share memory, have any strides and lie on any device. ``facts`` is JSON:
        it comes back with lists for tuples and strings for the keys of mappings.
        """
        checkpoint.save(self.path / CHECKPOINTS, time, tensors, facts)

    def latest_checkpoint(self) -> checkpoint.Checkpoint | None:
        """The newest whole checkpoint, None before the first. Warns where it passes over one.

        Raises:
            UserError: there are checkpoints, and all are damaged.
        """
        return checkpoint.latest(self.path / CHECKPOINTS)

    def save_recording(
        self, time: int, columns: recording.Columns, facts: Mapping[str, Any]
    ) -> None:
        """Keeps what was recorded before the evaluation at world time ``time``."""
        recording.save(self.path / RECORDINGS, time, columns, facts)

    def recordings(self) -> tuple[list[recording.Recording], list[str]]:
        """All recordings, oldest first, and a sentence for each that is damaged and left out."""
        return recording.load(self.path / RECORDINGS)

    def drop_recordings(self, time: int) -> None:
        """Drops the recordings after world time ``time``, as a run that resumes there has to."""
        recording.drop_after(self.path / RECORDINGS, time)


def _read_facts(path: Path) -> dict[str, Any]:
    """Return what ``run.json`` says of a folder, once it is one that can be read here."""
    try:
        there = {name for name in ("", CONFIG, RUN) if os.path.lexists(path / name)}
        is_folder = path.is_dir()
    except OSError as error:
        raise UserError(f"{path} is not a run folder: {error.strerror}.") from error
    if not is_folder:
        raise UserError(f"{path} is not a run folder: it is {'a file' if there else 'not there'}.")
    if CONFIG not in there:
        raise UserError(f"{path} is not a run folder: it has no {CONFIG}.")
    if RUN not in there:
        raise UserError(f"{path} is not a whole run folder: it has no {RUN}.")
    facts = bounds.read_record(path / RUN)
    version = facts.get("format_version")
    if type(version) is not int or version < 1:
        raise UserError(f"{path / RUN} is damaged: its format_version is {str(version)[:40]!r}.")
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} was written by a newer dnicomm: its format_version is {str(version)[:40]}, "
            f"this dnicomm reads up to {FORMAT_VERSION}. Update dnicomm."
        )
    return facts


def _why_foreign(content: bytes, signed: object) -> str:
    """Why a configuration does not count as this user's own, in a clause; "" where it does."""
    if signed is None:
        return f"{RUN} has no signature: it was written elsewhere, or by an earlier dnicomm"
    try:
        own = signature.is_signed(content, signed)
    except signature.NoKeyError as error:
        return str(error)
    return "" if own else f"it was written elsewhere, or its {CONFIG} has been changed"


def _to_json(record: Mapping[str, Any], indent: int | None = None) -> str:
    return json.dumps(_plain(record), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    """Null for numbers that are not finite; numpy's and torch's numbers as Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value


def _is_measured(value: Any, levels: int) -> bool:
    """Whether a value is a number; or numbers or null, each at the end of ``levels`` names."""
    if not levels:
        return isinstance(value, int | float)
    return isinstance(value, dict) and all(
        (levels == 1 and inner is None) or _is_measured(inner, levels - 1)
        for inner in value.values()
    )


def _ends_with_newline(path: Path) -> bool:
    with bounds.open_regular(path) as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
