"""A run carried to its end in its folder: shared by ``run`` and ``resume``."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dnicomm.commands.display import display
from dnicomm.commands.table import print_result
from dnicomm.errors import UserError
from dnicomm.runs import RunFolder
from dnicomm.sim import Result, Simulation


class Stopped(KeyboardInterrupt):
    """The user stopped a run that can go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"stopped; go on with: dnicomm resume {quoted(folder)}")


def carry_on(
    simulation: Simulation, config: Mapping[str, Any], folder: RunFolder, console: Console
) -> Result:
    """Train to the configuration's end, and show it.

    Raises:
        Stopped: if the user stops it.
        UserError: if a plug-in does what it must not.
    """
    console.print(_title(simulation, config), soft_wrap=True)
    with threads(config["threads"]):
        try:
            begun = simulation.time, simulation.agent_ticks()
            with display(console, *begun) as shown:
                return simulation.run(config["steps"], folder, shown.update)
        except KeyboardInterrupt:
            raise Stopped(folder.path) from None


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch's threads on the CPU; results depend on them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def conclude(
    console: Console, folder: Path, summary: Mapping[str, Any], overrides: Sequence[str]
) -> None:
    """The table at the end, where the run lies, and what to try next."""
    print_result(console, summary)
    console.print(f"\n{folder}", soft_wrap=True, style="bold")
    console.print("\nTry next:")
    for command, why in _next(folder, summary, overrides):
        console.print(f"  {command}", soft_wrap=True)
        console.print(f"      {why}", soft_wrap=True, style="dim")


def quoted(path: Path) -> str:
    """A path for the shell, short where it lies below the working folder."""
    with contextlib.suppress(ValueError):
        path = path.absolute().relative_to(Path.cwd())
    return shlex.quote(str(path))


def _next(
    folder: Path, summary: Mapping[str, Any], overrides: Sequence[str]
) -> Iterator[tuple[str, str]]:
    yield f"dnicomm eval {quoted(folder)}", "test it again, without training"
    others = {
        "synthetic": "senders learn from utility models",
        "none": "senders learn nothing: what feedback has to beat",
        "exact": "senders wait for true gradients: what feedback is measured by",
    }
    kept = [shlex.quote(override) for override in overrides
            if not override.startswith("feedback=")]  # fmt: skip
    for mode, why in others.items() if summary["channels"] else ():
        if mode != summary["feedback"]:
            yield " ".join(["dnicomm run", *kept, f"feedback={mode}"]), why


def _title(simulation: Simulation, config: Mapping[str, Any]) -> str:
    agents, which = simulation.world.agents, config["env"].get("id")
    worlds = simulation.num_worlds
    return ", ".join(
        [
            f"{simulation.env.name} {which}" if which else simulation.env.name,
            f"{len(agents)} agent{'s' * (len(agents) != 1)}",
            f"{worlds} world{'s' * (worlds != 1)}",
            f"feedback {simulation.feedback}",
            f"seed {simulation.seed}",
            str(simulation.device),
        ]
    )


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the same run; the system lets go when this one dies.

    Raises:
        UserError: if another one is at work on it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with (folder / "run.json").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{folder}: another process is at work on this run") from None
        yield


def discard(folder: Path) -> None:
    """Remove the files of a run that failed before its first evaluation, and no others."""
    if not any((folder / name).exists() for name in ("metrics.jsonl", "checkpoints")):
        for name in ("config.yaml", "run.json"):
            (folder / name).unlink(missing_ok=True)
