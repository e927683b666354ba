"""``logger=tensorboard`` and ``logger=wandb``: the metrics of a run for other people's viewers.

``metrics.jsonl`` is what counts; a logger's files follow from it. So a process that goes on with a
run writes them anew from the first evaluation: whatever moment the one before was killed at, no
point is missing and none is there twice. Names are those of ``metrics.jsonl``, its levels joined
by slashes, over world time (updates in an experiment): ``metrics/accuracy``,
``agents/agent_0/loss``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from dnicomm.errors import UserError, nearest
from dnicomm.runs import RunFolder
from dnicomm.runs.bounds import MOST_YAML, read_bytes


class Logger(Protocol):
    """Something that keeps points."""

    def log(self, time: int, values: Mapping[str, float]) -> None:
        """Keep the values of one evaluation, readable for others when this returns."""

    def close(self) -> None:
        """Nothing more will come."""


class TensorBoard:
    """Event files in ``RUN/tensorboard``, written by torch's own writer.

    Args:
        run: the run; what an earlier process left of this is replaced.
    """

    module = "torch.utils.tensorboard"
    look = "tensorboard --logdir {run}"
    why = "its curves in a browser"

    def __init__(self, run: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(run.path / "tensorboard", ignore_errors=True)
        # the step: a TensorBoard that is looking on forgets what it had read of those files
        self.writer = SummaryWriter(run.path / "tensorboard", purge_step=0)
        text = read_bytes(run.path / "config.yaml", MOST_YAML).decode("utf-8")
        self.writer.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))

    def log(self, time: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, time)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandB:
    """An offline run of Weights & Biases in ``RUN/wandb``: nothing leaves this machine.

    Args:
        run: the run; what an earlier process left of this is replaced, under the same id.
    """

    module = "wandb"
    look = "wandb sync {run}/wandb/offline-run-*"
    why = "upload it to Weights & Biases"

    def __init__(self, run: RunFolder) -> None:
        wandb = import_module(self.module)

        before = sorted((run.path / "wandb").glob("offline-run-*"))
        shutil.rmtree(run.path / "wandb", ignore_errors=True)
        self.run = wandb.init(
            mode="offline",
            project="dnicomm",
            name=run.path.name,
            id=before[-1].name.rpartition("-")[2] if before else None,
            dir=run.path,
            config=run.config,
            # of the run what is in its folder, and nothing about the machine or the user's code
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )

    def log(self, time: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=time, commit=True)

    def close(self) -> None:
        self.run.finish()


KINDS: Mapping[str, type[TensorBoard] | type[WandB]] = {"tensorboard": TensorBoard, "wandb": WandB}


def check_logger(where: str, value: Any) -> list[str]:
    """Names of loggers: one, a list of them, or null for none.

    Raises:
        UserError: if there is no such logger.
    """
    names = value if isinstance(value, list) else [] if value is None else [value]
    for name in names:
        if not isinstance(name, str) or name not in KINDS:
            raise UserError(f"{where}={name}: there is no such logger.{nearest(str(name), KINDS)}")
    return list(dict.fromkeys(names))


def require(names: Sequence[str]) -> None:
    """Import what loggers need, before a run that they would fail in begins.

    Raises:
        UserError: if the package of one is not installed, or can't be imported.
    """
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # read as it is imported
    for name in names:
        if not installed(name):
            raise UserError(
                f"logger={name}: the package {name} is not installed here. "
                f'Install it: pip install "dnicomm[{name}]"'
            )
        try:
            import_module(KINDS[name].module)
        except Exception as error:  # of another version, or without a library it needs
            said = " ".join(str(error).split())
            raise UserError(
                f"logger={name}: the package {name} can't be imported here: "
                f"{type(error).__name__}: {said}"
            ) from error


def installed(package: str) -> bool:
    """Whether there is such a package, and not just a folder of that name to import from."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


@contextmanager
def logged(run: RunFolder, names: Sequence[str]) -> Iterator[None]:
    """Within it, loggers get each evaluation as soon as it is in ``metrics.jsonl``."""
    opened: list[Logger] = []

    def follow(record: Mapping[str, Any]) -> None:
        records: Sequence[Mapping[str, Any]] = [record]
        if not opened:  # not before: a run that fails early leaves nothing
            opened.extend(KINDS[name](run) for name in names)
            records = run.metrics()
        for logger in opened:
            for each in records:
                logger.log(each["time"], numbers(each))

    follower: list[Callable[[Mapping[str, Any]], None]] = [follow] if names else []
    run.followers.extend(follower)
    try:
        yield
    finally:
        for each in follower:
            run.followers.remove(each)
        for logger in opened:
            logger.close()


def numbers(record: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """The numbers of an evaluation by name, levels joined by slashes, without its time."""
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{above}{key}/")
        elif isinstance(value, int | float) and f"{above}{key}" != "time":
            found[f"{above}{key}"] = value
    return found


def ways_on(names: Sequence[str], folder: str) -> Iterator[tuple[str, str]]:
    """Commands that show what was logged, and why one would call them.

    Args:
        names: of loggers.
        folder: of the run, as typed into a shell.
    """
    for name in names:
        yield KINDS[name].look.format(run=folder), KINDS[name].why
