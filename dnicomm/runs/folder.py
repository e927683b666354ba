"""The folder of one run: configuration, metrics, summary, checkpoints, recordings.

======================  ======================================================================
``config.yaml``         the configuration; its being there makes the folder a run
``run.json``            ``format_version`` of the folder
``metrics.jsonl``       one JSON object an evaluation, in the order of their ``time``
``summary.json``        what came out, once the run has ended
``checkpoints/``        the last two checkpoints
``recordings/``         what happened in one world of some episodes
``communication.json``  metrics of communication, where somebody asked for them
======================  ======================================================================

All of it is plain data: reading a folder runs no code from it. Numbers that are not finite are
written as null, because JSON has no others.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf

from dnicomm.errors import UserError
from dnicomm.runs import checkpoint, recording
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


class RunFolder:
    """An existing run; ``RunFolder(path)`` is ``RunFolder.open(path)``. One process writes it.

    Attributes:
        path: the folder.
        config: the configuration.
        followers: called with each evaluation that is added, once it is on disk, as it reads there.
    """

    path: Path
    config: dict[str, Any]
    followers: list[Callable[[dict[str, Any]], None]]

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _check_format(self.path)
        self.config = _read_config(self.path / CONFIG)
        self.followers = []

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any] | DictConfig) -> RunFolder:
        """Makes a new run at ``path``, which may exist and hold other files.

        ``config`` holds what YAML does: mappings, lists, strings, numbers, booleans, None.
        Interpolations are kept as they are written.

        Raises:
            UserError: ``path`` already holds a run, or cannot be made a folder.
        """
        path = Path(path)
        text = OmegaConf.to_yaml(OmegaConf.create(config))
        for name in (CONFIG, METRICS, SUMMARY, CHECKPOINTS, RECORDINGS):
            if (path / name).exists():
                raise UserError(
                    f"{path} already holds a run (it has {name}), and nothing is written over. "
                    "Choose another folder."
                )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path} cannot be a run folder: {error.strerror}.") from error
        write_text(path / RUN, json.dumps({"format_version": FORMAT_VERSION}) + "\n")
        write_text(path / CONFIG, text)  # last: now it is a run
        return cls(path)

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
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
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
        *lines, unfinished = path.read_bytes().split(b"\n")
        records = []
        for number, line in enumerate(lines, start=1):
            record = _parse_record(line)
            if record is None:
                raise UserError(f"{path}, line {number} is damaged: not a JSON object.")
            records.append(record)
        last = _parse_record(unfinished)  # whole where only its newline is missing
        return records if last is None else [*records, last]

    def truncate_metrics(self, time: int) -> None:
        """Drops the evaluations after world time ``time``, as a run that resumes there has to.

        Raises:
            UserError: a line is damaged or has no ``time``.
        """
        records = self.metrics()
        for number, record in enumerate(records, start=1):
            if not isinstance(record.get("time"), int):
                raise UserError(f"{self.path / METRICS}, line {number} is damaged: no time.")
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
        return _read_json(path) if path.exists() else None

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


def _check_format(path: Path) -> None:
    if not path.is_dir():
        raise UserError(
            f"{path} is not a run folder: it is {'a file' if path.exists() else 'not there'}."
        )
    if not (path / CONFIG).is_file():
        raise UserError(f"{path} is not a run folder: it has no {CONFIG}.")
    if not (path / RUN).is_file():
        raise UserError(f"{path} is not a whole run folder: it has no {RUN}.")
    version = _read_json(path / RUN).get("format_version")
    if type(version) is not int or version < 1:
        raise UserError(f"{path / RUN} is damaged: its format_version is {version!r}.")
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} was written by a newer dnicomm: its format_version is {version}, this "
            f"dnicomm reads up to {FORMAT_VERSION}. Update dnicomm."
        )


def _read_config(path: Path) -> dict[str, Any]:
    # not OmegaConf.load: it takes an empty file and a lone word for mappings, and what it returns
    # can call functions of this process as interpolations are resolved
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is damaged: {_in_a_line(error)}.") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is damaged: it is not a mapping.")
    return config


def _in_a_line(error: Exception) -> str:
    """What is wrong with a file, and where, without the parser's picture of it."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.MarkedYAMLError) and mark is not None:
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error).partition("\n")[0]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = _parse_record(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if record is None:
        raise UserError(f"{path} is damaged: not a JSON object.")
    return record


def _parse_record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:  # not JSON, or not even UTF-8
        return None
    return record if isinstance(record, dict) else None


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


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
