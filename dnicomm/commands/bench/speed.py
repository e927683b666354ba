"""``dnicomm bench speed``: how fast everything is, in ratios measured side by side."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from dnicomm.commands.arguments import Parser
from dnicomm.commands.table import screen
from dnicomm.errors import UserError, nearest

if TYPE_CHECKING:
    from dnicomm.bench.speed.report import Findings, Grid

PARTS = ("step", "products", "agents", "compile", "curves", "environments")
NAMES = ("smoke", "cpu")
KEYS = ("budget", "parts", "threads")
EPILOG = """\
step: a decoupled step beside backpropagation; products: many small matrices, by numpy and by torch;
agents: many agents beside a loop of modules; compile: what torch.compile is worth (for which torch
needs a C++ compiler); curves: how the cost grows; environments: worlds in a batch beside PettingZoo
copies in a loop.
Steps and agents stand beside their floor, the time of the arithmetic and of the bytes that have to
be moved. budget=smoke takes half a minute, budget=cpu half an hour, a third of it for the copies.
One thread is timed by the processor's clock; more by the wall's: leave the machine alone then.
"""


def main(arguments: Sequence[str]) -> int:
    """Measure, show, and write it down; the exit code.

    Raises:
        UserError: if the arguments are wrong, or the folder can't be written.
    """
    parser = Parser("dnicomm bench speed", epilog=EPILOG,
                    description="Times beside backpropagation, loops and floors.")  # fmt: skip
    parser.add_argument("words", metavar="KEY=VALUE", nargs="*",
                        help=f"budget=smoke|cpu (cpu), parts={','.join(PARTS)} (all), "
                             "threads=N (1)")  # fmt: skip
    parser.add_argument("--folder", type=Path, default=Path("speed"),
                        help="for speed.json, speed.md and curves.svg; default: speed")  # fmt: skip
    given = parser.parse_intermixed_args(arguments)
    budget, parts, count = _chosen(given.words)
    console = screen()
    from dnicomm.bench.compiling import check_compiler
    from dnicomm.commands.at_work import threads  # torch takes seconds to import

    if "compile" in parts:
        try:
            check_compiler("parts=compile")
        except UserError as error:
            if any(word.startswith("parts=") for word in given.words):
                raise
            parts = [part for part in parts if part != "compile"]
            console.print(f"without compile: {error}", style="dim")
    with threads(count):
        found = _measure(budget, parts, console)
    _write(found, given.folder)
    for grid in _grids(found):
        _print(console, grid)
    console.print(f"written: {given.folder}", soft_wrap=True)
    return 0


def _chosen(words: Sequence[str]) -> tuple[str, Sequence[str], int]:
    """Budget, parts, and number of threads."""
    budget, parts, count = "cpu", list(PARTS), 1
    for word in words:
        key, _, value = word.partition("=")
        if key == "budget":
            budget = _one_of(key, value, NAMES)
        elif key == "parts":
            parts = [_one_of(key, part, PARTS) for part in value.split(",")]
        elif key == "threads":
            from dnicomm.commands.keys import check_threads  # and torch, which takes seconds

            count = check_threads(key, int(value) if value.isdecimal() else value)
        else:
            raise UserError(f"{key}: there is no such key.{nearest(key, KEYS)}")
    return budget, parts, count


def _one_of(key: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise UserError(f"{key}={value}: must be {' or '.join(known)}")
    return value


def _measure(name: str, parts: Sequence[str], console: Console) -> Findings:
    from dnicomm.bench.speed.agents import measure_agents
    from dnicomm.bench.speed.budgets import BUDGETS
    from dnicomm.bench.speed.compiled import measure_compiled
    from dnicomm.bench.speed.crowd import Crowd
    from dnicomm.bench.speed.environments import SHIPPED, measure
    from dnicomm.bench.speed.measuring import rates
    from dnicomm.bench.speed.report import Findings
    from dnicomm.bench.speed.scaling import measure_scaling
    from dnicomm.bench.speed.stacked import measure_products
    from dnicomm.bench.speed.step import measure_steps

    budget = BUDGETS[name]
    found = Findings(_machine(), rates(budget.rounds, budget.copied))
    if "step" in parts:
        console.print("one step …", style="dim")
        found.steps = measure_steps(found.rates, budget.layers, budget.boundary, budget.rounds)
    if "products" in parts:
        console.print("stacked products …", style="dim")
        worlds = budget.crowd.num_worlds
        found.products = measure_products(budget.products, worlds, budget.rounds)
    for count, horizon in budget.agents.items() if "agents" in parts else ():
        console.print(f"{count:,} agents …", style="dim")
        base = {**vars(budget.crowd), "num_agents": count, "horizon": horizon}
        row = measure_agents(found.rates, Crowd(**base), budget.episodes, budget.loop_agents)
        found.agents.append(row)
    if "compile" in parts:
        console.print("torch.compile …", style="dim")
        crowd = replace(budget.crowd, num_agents=max(budget.compiled) + 1)
        found.compiled = measure_compiled(budget.layers, crowd, budget.compiled, budget.rounds)
    if "curves" in parts:
        console.print("cost curves …", style="dim")
        found.curves = measure_scaling(budget.crowd, budget.values, budget.episodes)
    if "environments" in parts:
        console.print("environments …", style="dim")
        chosen = {name: SHIPPED[name] for name in budget.environments or SHIPPED}
        found.environments = measure(chosen, budget.worlds, budget.turns, budget.seconds)
    return found


def _machine() -> str:
    import torch

    count = torch.get_num_threads()
    return (
        f"{os.cpu_count()} cores of {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {count} thread{'s' * (count > 1)}"
    )


def _grids(found: Findings) -> list[Grid]:
    from dnicomm.bench.speed.report import grids

    return grids(found)


def _write(found: Findings, folder: Path) -> None:
    from dnicomm.bench.speed.pictures import picture
    from dnicomm.bench.speed.report import markdown

    pages = {"speed.json": json.dumps(found.facts(), indent=1) + "\n", "speed.md": markdown(found)}
    if found.curves:
        pages["curves.svg"] = picture(found.curves)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error


def _print(console: Console, grid: Grid) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for number, column in enumerate(grid.columns):
        table.add_column(column, justify="right" if number else "left")
    for row in grid.rows:
        table.add_row(*row)
    console.print()
    console.print(grid.title, style="bold")
    console.print(table)
