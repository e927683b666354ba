"""What was measured, as tables: on a screen, in Markdown, and in JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dnicomm.bench.speed.agents import AgentsRow
from dnicomm.bench.speed.compiled import CompiledRow
from dnicomm.bench.speed.environments import EnvironmentSpeed
from dnicomm.bench.speed.measuring import Rates, Spread
from dnicomm.bench.speed.scaling import Curve
from dnicomm.bench.speed.stacked import ProductRow
from dnicomm.bench.speed.step import StepRow


@dataclass
class Findings:
    """Everything that one call of ``dnicomm bench speed`` found."""

    machine: str
    rates: Rates
    steps: list[StepRow] = field(default_factory=list)
    products: list[ProductRow] = field(default_factory=list)
    agents: list[AgentsRow] = field(default_factory=list)
    compiled: list[CompiledRow] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    environments: list[EnvironmentSpeed] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Ready for JSON."""
        found = asdict(self)
        for kept, row in zip(found["steps"], self.steps, strict=True):
            kept["over_floor"] = row.over_floor
        for kept, of in zip(found["agents"], self.agents, strict=True):
            kept["outside"] = of.outside
        for kept, curve in zip(found["curves"], self.curves, strict=True):
            kept["exponent"] = curve.exponent
        return found


@dataclass(frozen=True)
class Grid:
    """A table: names in the first column."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def grids(found: Findings) -> list[Grid]:
    """The tables of what there is."""
    made = [_rates(found.rates)]
    if found.steps:
        made.append(_steps(found.steps))
    if found.products:
        made.append(_products(found.products))
    if found.agents:
        made += [_agents(found.agents), _stages(found.agents)]
        made += [_operations(found.agents)] if found.agents[0].operations else []
    if found.compiled:
        made.append(_compiled(found.compiled))
    if found.curves:
        made.append(_curves(found.curves))
    if found.environments:
        made.append(_environments(found.environments))
    return made


def markdown(found: Findings) -> str:
    """All of it as one page."""
    parts = [f"Machine: {found.machine}.\n"]
    for grid in grids(found):
        lines = [grid.columns, ["---"] * len(grid.columns), *grid.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"{grid.title}:\n\n{table}\n")
    return "\n".join(parts)


def _spread(value: Spread, digits: int = 2) -> str:
    shown = f"{value.median:,.{digits}f}"
    return f"{shown} ({value.low:,.{digits}f} to {value.high:,.{digits}f})"


def _rates(rates: Rates) -> Grid:
    rows = [["product of 256 x 256 matrices", f"{2e-9 * rates.product:.0f} GFLOP/s"]]
    rows += [
        [f"copy of {size / 2**20:g} MiB", f"{rate / 1e9:.1f} GB/s"]
        for size, rate in rates.copy.items()
    ]
    return Grid("What the machine does (copies: read and written)", ["", "rate"], rows)


def _steps(rows: list[StepRow]) -> Grid:
    columns = [
        "step", "ms", "floor, ms", "to backprop", "to torch.optim.Adam's", "floor, MACs alone",
        "floor, with bytes", "over the floor",
    ]  # fmt: skip
    return Grid(
        "One step beside backpropagation (median and quartiles of ratios)",
        columns,
        [
            [
                row.name,
                f"{row.milliseconds:.2f}",
                f"{row.own_floor_ms:.2f}",
                _spread(row.ratio),
                "" if row.to_torch is None else _spread(row.to_torch),
                f"{row.macs_floor:.2f}",
                f"{row.floor:.2f}",
                f"{row.over_floor:.2f}",
            ]
            for row in rows
        ],
    )


def _products(rows: list[ProductRow]) -> Grid:
    return Grid(
        "A linear map of many agents, forward and backward (microseconds an agent)",
        ["agents", "inputs", "outputs", "torch", "numpy", "numpy / torch"],
        [
            [f"{row.agents:,}", str(row.inputs), str(row.outputs), f"{row.torch_us:.2f}",
             f"{row.numpy_us:.2f}", _spread(row.ratio)]
            for row in rows
        ],
    )  # fmt: skip


def _agents(rows: list[AgentsRow]) -> Grid:
    columns = [
        "agents",
        "agent-ticks/s",
        "loop",
        "times the loop",
        "floor",
        "times the floor's time",
    ]
    return Grid(
        "Many agents (agent-ticks a second, each in all its worlds)",
        columns,
        [
            [
                f"{row.agents:,}",
                _spread(row.ours, 0),
                _spread(row.loop, 0),
                _spread(row.times_loop, 1),
                f"{row.floor.median:,.0f}",
                _spread(row.times_floor, 1),
            ]
            for row in rows
        ],
    )


def _stages(rows: list[AgentsRow]) -> Grid:
    names = list(rows[0].shares)
    return Grid(
        "Where the time goes, in %",
        ["agents", *names, "all but tick, backward, optimiser"],
        [
            [f"{row.agents:,}", *(f"{100 * row.shares[name]:.1f}" for name in names),
             f"{100 * row.outside:.1f}"]
            for row in rows
        ],
    )  # fmt: skip


def _operations(rows: list[AgentsRow]) -> Grid:
    names = list(rows[0].operations)
    return Grid(
        "An agent-tick by operation, in microseconds",
        ["agents", *names, "floor"],
        [
            [f"{row.agents:,}", *(f"{1e6 * row.operations[name]:.1f}" for name in names),
             f"{1e6 / row.floor.median:.1f}"]
            for row in rows
        ],
    )  # fmt: skip


def _compiled(rows: list[CompiledRow]) -> Grid:
    return Grid(
        "torch.compile (median and quartiles of ratios)",
        ["what", "plain, ms", "compiled, ms", "compiled / plain", "first call, s", "graphs"],
        [
            [row.name, f"{row.plain_ms:.2f}", f"{row.compiled_ms:.2f}", _spread(row.ratio),
             f"{row.start:.1f}", str(row.graphs)]
            for row in rows
        ],
    )  # fmt: skip


def _curves(curves: list[Curve]) -> Grid:
    return Grid(
        "Cost curves (exponents fitted in the upper half)",
        ["what grows", "cost of", "values", "milliseconds", "exponent"],
        [
            [
                curve.name,
                curve.cost,
                ", ".join(f"{x:g}" for x, _ in curve.points),
                ", ".join(f"{1e3 * y:.3g}" for _, y in curve.points),
                f"{curve.exponent:z.2f}",
            ]
            for curve in curves
        ],
    )


def _environments(rows: list[EnvironmentSpeed]) -> Grid:
    return Grid(
        "Environments (steps of one world a second; median and range of ratios)",
        ["environment", "worlds", "in a batch", "as PettingZoo copies", "times the copies"],
        [
            [
                row.environment,
                f"{row.worlds:,}",
                f"{row.batched:,.0f}",
                f"{row.copies:,.0f}",
                _spread(Spread(row.ratio, row.low, row.high), 1),
            ]
            for row in rows
        ],
    )
