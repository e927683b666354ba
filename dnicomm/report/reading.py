"""What can be read of a run folder, whatever state it is in, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnicomm.errors import UserError
from dnicomm.runs import Recording, RunFolder, bounds
from dnicomm.runs.recording import load

SOME = ("config.yaml", "metrics.jsonl", "summary.json")  # of these, a run has one at least
SWEEP = "multirun.yaml"  # what Hydra leaves in the folder of a sweep
FACTS = ("began", "length", "until", "world")  # of a recording
COLUMNS = {
    "tick": ("time", "agent", "action", "label"),
    "message": (
        "channel", "sent", "arrival", "lost", "first_read", "reads", "settled",
        "synthetic", "injected", "target", "cosine", "error",
    ),
    "update": ("time", "agent", "steps"),
    "reward": ("time", "agent", "value"),
}  # fmt: skip
VECTOR = ("value", "channel", "sent", "label")
# columns of any numbers; those of others are whole
NUMBERS = ("synthetic", "injected", "target", "cosine", "error", "value", "label")
TIMES = ("time", "sent", "arrival", "first_read", "settled")
LATEST = 10**12  # world time


@dataclass
class RunView:
    """A run as far as it can be read; every part may be empty.

    Args:
        state: ``ended``, ``running`` or ``stopped``.
        missing: what can't be shown, and why, a sentence each.
    """

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    recordings: list[Recording] = field(default_factory=list)
    communication: dict[str, Any] = field(default_factory=dict)
    state: str = "stopped"
    missing: list[str] = field(default_factory=list)

    @property
    def is_bench(self) -> bool:
        """Whether it is one of the paper's experiments."""
        return "bench" in self.config

    @property
    def last(self) -> dict[str, Any]:
        """The summary, or before there is one the latest evaluation."""
        return self.summary or (self.metrics[-1] if self.metrics else {})

    @property
    def figure(self) -> str | None:
        """The metric that sums the run up; None where nothing was measured."""
        named = self.summary.get("figure")
        metrics = part(self.last, "metrics")
        if isinstance(named, str) and named in metrics:
            return named
        tested = [name for name, value in metrics.items()
                  if number(value) is not None and not name.startswith("train_")]  # fmt: skip
        return tested[0] if tested else None

    @property
    def result(self) -> float | None:
        """That metric, at the end or at the latest evaluation."""
        return None if self.figure is None else number(part(self.last, "metrics")[self.figure])

    @property
    def about(self) -> str | None:
        """The environment or the experiment; None where nothing says."""
        if self.is_bench:
            return f"bench {self.choice('bench')}"
        name = self.summary.get("env") or part(self.config, "choices").get("env")
        return name if isinstance(name, str) else None

    @property
    def condition(self) -> str:
        """What runs are told apart by: how senders learn, or an experiment's method."""
        method = part(self.config, "method").get("name")
        return self.choice("feedback") or (method if isinstance(method, str) else "this run")

    def choice(self, key: str, default: str = "") -> str:
        """A word of the configuration."""
        value = self.config.get(key, default)
        return value if isinstance(value, str) else default


def read_run(path: Path, episodes: bool = True) -> RunView:
    """Read what there is.

    Args:
        episodes: whether to read the recordings, too.

    Raises:
        UserError: if there is no folder, or nothing of a run in it.
    """
    try:
        is_folder, what = path.is_dir(), _what(path)
        has_some = any((path / name).is_file() for name in SOME)
    except OSError as error:
        raise UserError(f"{path} is not a run folder: {error.strerror}.") from error
    if not is_folder:
        raise UserError(f"{path} is not a run folder: it is {what}.")
    if not has_some:
        hint = " It is a sweep: name one of its runs." if (path / SWEEP).is_file() else ""
        raise UserError(f"{path} is not a run folder: it has no config.yaml.{hint}")
    view = RunView(path)
    try:
        view.config = RunFolder.open(path).config
    except UserError as error:
        view.missing.append(str(error))
        view.config = _configuration(path)
    view.metrics = _metrics(view)
    view.summary = _json(view, "summary.json", "the latest evaluation stands in for it")
    view.communication = _json(view, "communication.json")
    view.recordings = _recordings(view) if episodes else []
    view.state = "ended" if view.summary else "running" if is_being_written(path) else "stopped"
    if not view.metrics:
        view.missing.append("There is no evaluation yet, so there is nothing to draw curves from.")
    elif episodes and not view.recordings and part(view.last, "agents"):
        view.missing.append(
            "No episode was recorded, so there is neither a play-by-play nor a timeline."
        )
    if view.state == "running":
        view.missing.append("The run is still going on: this is how far it has come.")
    elif view.state == "stopped":
        view.missing.append(
            "The run has not ended (there is no summary.json): this is how far it came. "
            f"To go on: dnicomm resume {path}"
        )
    return view


def is_being_written(path: Path) -> bool:
    """Whether a process is at work on a run: it holds a lock on its ``run.json``."""
    try:
        import fcntl

        with bounds.open_regular(path / "run.json") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError, UserError):  # not on Windows; or no such file
        return False
    return False


def siblings(view: RunView) -> list[RunView]:
    """The other runs of the same sweep that can be read, in the order of their numbers."""
    folder = view.path.absolute().parent
    if not (folder / SWEEP).is_file():
        return []
    found = []
    for path in sorted(folder.iterdir(), key=_place):
        if path.name == view.path.absolute().name or not (path / "config.yaml").is_file():
            continue
        try:
            found.append(read_run(path, episodes=False))
        except (UserError, OSError):
            continue
    return found


def differs_in(one: Mapping[str, Any], other: Mapping[str, Any], but: Sequence[str]) -> bool:
    """Whether two configurations differ elsewhere than in the keys ``but``."""
    skipped = {*but, "choices", "overrides", "logger"}
    return any(
        one.get(key) != other.get(key) for key in {*one, *other} if key not in skipped
    )  # fmt: skip


def part(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A mapping inside of a record; empty where there is none."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float | None:
    """A finite number; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float holds
        return None


def series(view: RunView, *keys: str) -> tuple[list[float], list[float | None]]:
    """A figure at all evaluations: their times, and its values."""
    times, values = [], []
    for record in view.metrics:
        time, inside = number(record.get("time")), record
        for key in keys[:-1]:
            inside = part(inside, key)
        if time is not None:
            times.append(time)
            values.append(number(inside.get(keys[-1])))
    return times, values


def names(view: RunView, *keys: str) -> list[str]:
    """The keys of a mapping in any evaluation, in the order in which they came."""
    found: dict[str, None] = {}
    for record in view.metrics:
        inside: Mapping[str, Any] = record
        for key in keys:
            inside = part(inside, key)
        found |= dict.fromkeys(inside)
    return list(found)


def _what(path: Path) -> str:
    return "a file" if path.exists() else "not there"


def _place(path: Path) -> tuple[int, str]:
    first = path.name.partition("-")[0]
    return (int(first) if first.isdigit() else 10**9, path.name)


def _configuration(path: Path) -> dict[str, Any]:
    """The configuration of a folder that can't be opened as a run, if it can be read."""
    file = path / "config.yaml"
    try:
        return bounds.parse_mapping(file, bounds.read_bytes(file, bounds.MOST_YAML))
    except UserError:
        return {}


def _metrics(view: RunView) -> list[dict[str, Any]]:
    path = view.path / "metrics.jsonl"
    records, damaged = [], 0
    for line in _lines(view, path):
        record = bounds.parse_record(line)
        if record is not None:
            records.append(record)
        elif line.strip():
            damaged += 1
    if damaged:
        some = "one line" if damaged == 1 else f"{damaged} lines"
        view.missing.append(f"{path}: {some} could not be read and {_is(damaged)} left out.")
    return records


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _lines(view: RunView, path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    try:
        yield from bounds.read_bytes(path, bounds.MOST_METRICS).split(b"\n")
    except UserError as error:
        view.missing.append(str(error))


def _json(view: RunView, name: str, instead: str = "it is left out") -> dict[str, Any]:
    path = view.path / name
    if not path.exists():
        return {}
    try:
        return bounds.read_record(path)
    except UserError as error:
        why = str(error).removeprefix(f"{path} ").rstrip(".")
        view.missing.append(f"{path} could not be read ({why}); {instead}.")
        return {}


def _recordings(view: RunView) -> list[Recording]:
    found, damage = load(view.path / "recordings")
    view.missing += damage
    sound = [recording for recording in found if _is_sound(recording)]
    if len(sound) < len(found):
        count = len(found) - len(sound)
        view.missing.append(f"{count} recording{'s' * (count > 1)} of episodes can't be shown: "
                            "written by another version of dnicomm.")  # fmt: skip
    return sound


def _is_sound(recording: Recording) -> bool:
    """Whether a recording has what the pages draw, and nothing in it points elsewhere."""
    try:
        return _has_facts(recording) and _has_columns(recording)
    except (ArithmeticError, TypeError, ValueError):  # nothing that could be compared
        return False


def _has_facts(recording: Recording) -> bool:
    facts = recording.facts
    agents, edges, starts = facts.get("agents"), facts.get("edges"), facts.get("starts")
    if not (isinstance(agents, list) and isinstance(edges, list) and isinstance(starts, list)):
        return False
    if not all(isinstance(agent, str) for agent in agents):
        return False
    if not all(
        isinstance(edge, list) and len(edge) == 2 and {*edge} <= {*agents} for edge in edges
    ):
        return False
    times = [*starts, *(facts.get(key) for key in FACTS)]
    if not all(isinstance(time, int) and abs(time) < LATEST for time in times):
        return False
    numbers = (number(facts.get(key)) for key in ("true_share", "num_worlds"))
    return facts["until"] >= 1 and all(value is not None for value in numbers)


def _has_columns(recording: Recording) -> bool:
    facts, columns = recording.facts, recording.columns
    kinds = COLUMNS | ({"vector": VECTOR} if "vector.value" in columns else {})
    for kind, names_ in kinds.items():
        own = {name: columns.get(f"{kind}.{name}") for name in names_}
        if any(column is None or not column.ndim for column in own.values()):
            return False
        length = len(own[names_[0]])  # type: ignore[arg-type]
        for name, column in own.items():
            dimensions = 2 if (kind, name) == ("vector", "value") else 1
            types = "iuf" if name in NUMBERS else "iu"
            assert column is not None
            if (column.ndim, len(column)) != (dimensions, length) or column.dtype.kind not in types:
                return False
            if name in TIMES and len(column) and abs(column.astype(float)).max() >= LATEST:
                return False
    ends = {f"{kind}.agent": facts["agents"] for kind in ("tick", "update", "reward")}
    ends |= {f"{kind}.channel": facts["edges"] for kind in ("message", "vector") if kind in kinds}
    return all(not len(columns[name]) or 0 <= columns[name].min() <= columns[name].max() < len(of)
               for name, of in ends.items())  # fmt: skip
