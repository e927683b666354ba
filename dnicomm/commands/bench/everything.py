"""``dnicomm bench all``: every experiment with every method, each checked.

The training loss has to fall, and every parameter that should move has to move; else exit code 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dnicomm.commands.arguments import Parser
from dnicomm.commands.bench.catalogue import experiments, options, tree
from dnicomm.commands.composition import explain
from dnicomm.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
COST_SECONDS = 0.5  # a run, for measuring what a step costs


@dataclass(frozen=True)
class Variant:
    """What else is tried with the methods of an experiment.

    Args:
        words: overrides.
        without: methods that they don't go with, having nothing to unlock or to do at random, or
            that they would say nothing new of.
        smoke: further overrides with budget=smoke, which alone is too small to show anything.
    """

    words: tuple[str, ...]
    without: tuple[str, ...] = ()
    smoke: tuple[str, ...] = ()


_NOTHING_TO_UNLOCK = ("none", "backprop")
_LARGER = ("width=32", "lr=0.003", "inputs.lr=0.003", "steps=45", "eval.every=15")
_RANDOM = Variant(("update_probability=0.2",), ("backprop",))
VARIANTS: Mapping[str, tuple[Variant, ...]] = {
    "mnist": (
        Variant(("model=cnn",)),
        Variant(("unlock=full",), _NOTHING_TO_UNLOCK, _LARGER),
        _RANDOM,
    ),
    "cifar10": (
        Variant(("model=fcn", "unlock=full"), _NOTHING_TO_UNLOCK, _LARGER),
        _RANDOM,
    ),
    "two_networks": (Variant(("irregular=true",), ("critic", "local", "unprivileged")),),
}


@dataclass(frozen=True)
class Setting:
    """One run to make."""

    name: str
    words: tuple[str, ...]
    values: Mapping[str, Any]  # the configuration
    notes: Mapping[str, Any]  # kept beside it

    def __str__(self) -> str:
        return " ".join([self.name, *self.words])


def main(arguments: Sequence[str]) -> int:
    """Run everything; the exit code.

    Raises:
        UserError: if a key is unknown to one of the experiments, or a value can't be read.
    """
    parser = Parser("dnicomm bench all", description="Run every experiment with every method.")
    parser.add_argument(
        "values", metavar="KEY=VALUE", nargs="*",
        help="for all of them; budget=smoke if not said otherwise",
    )  # fmt: skip
    now = datetime.now()
    parser.add_argument(
        "--folder", type=Path, default=Path("runs", f"{now:%Y-%m-%d}", f"{now:%H-%M-%S}-bench-all"),
        help="where the runs go; default: a new one in runs/",
    )  # fmt: skip
    given = parser.parse_intermixed_args(arguments)
    for word in given.values:
        if "=" not in word:
            raise UserError(f"{word}: must be KEY=VALUE, e.g. seed=1")
    general = list(given.values)
    if not any(word.startswith("budget=") for word in general):
        general.insert(0, "budget=smoke")
    planned = list(settings(general))

    from dnicomm.commands.at_work import quoted
    from dnicomm.commands.bench.table import print_tables
    from dnicomm.commands.table import screen

    console, failed = screen(), 0
    for number, setting in enumerate(planned):
        folder = given.folder / f"{number:02}-{setting.name}-{setting.values['method']['name']}"
        line, complaints = run_checked(setting, folder)
        failed += bool(complaints)
        console.print(f"{setting!s:<60}  {line}", soft_wrap=True)
        for complaint in complaints:
            console.print(f"    {complaint}", soft_wrap=True, style="bold red")
    print_tables(console, [given.folder])
    console.print(f"\n{quoted(given.folder)}", soft_wrap=True, style="bold")
    verdict = f"{failed} of {len(planned)} failed" if failed else f"all {len(planned)} are right"
    console.print(verdict, style="bold")
    return int(failed > 0)


def settings(general: Sequence[str]) -> Iterator[Setting]:
    """Every experiment with every method, and its variants.

    Args:
        general: overrides for all.

    Raises:
        UserError: if they do not fit an experiment.
    """
    smoke = "budget=smoke" in general
    for name in experiments():
        for option in options(name, "method"):
            method = f"method={option.name}"
            yield _composed(name, (method,), general)
            for variant in VARIANTS.get(name, ()):
                if option.name not in variant.without:
                    more = variant.smoke if smoke else ()
                    yield _composed(name, (method, *variant.words), [*more, *general])


def _composed(name: str, words: tuple[str, ...], general: Sequence[str]) -> Setting:
    of, overrides = tree(name), [*general, *words]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(of.package, version_base="1.3"):
            config = compose(of.name, overrides)
        values: Any = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        said = explain(error, of, overrides)
        raise UserError(f"{name}: {said}") from error
    chosen = dict(word.split("=", 1) for word in overrides)
    choices = {group: chosen[group] for group in of.groups if group in chosen}
    return Setting(name, words, values, {**of.notes, "choices": choices, "overrides": overrides})


def run_checked(setting: Setting, folder: Path) -> tuple[str, list[str]]:
    """Run one setting in its folder: what it came to in a line, and what is wrong with it."""
    from dnicomm.bench.cost import measure
    from dnicomm.bench.training import run
    from dnicomm.commands.at_work import at_work
    from dnicomm.commands.bench.training import ExperimentWork
    from dnicomm.commands.table import figure
    from dnicomm.runs import RunFolder
    from dnicomm.sim.closing import closing

    try:
        with closing(ExperimentWork({**setting.values, **setting.notes})) as work:
            before = {n: tensor.detach().clone() for n, tensor in work.experiment.moving().items()}
            kept = RunFolder.create(folder, {**work.config, **setting.notes})
            with at_work(folder, work.config["threads"]):
                every = work.config["eval"]["every"]
                cost = partial(measure, seconds=COST_SECONDS)
                summary = run(work.experiment, work.fresh, every, kept, cost=cost, progress=False)
    except UserError as error:
        return "not run", [str(error)]
    records = [record["metrics"] for record in kept.metrics()]
    complaints = [*still(before, work.experiment.moving()), *rising(records)]
    losses = [figure(metrics.get("train_loss")) for metrics in (records[0], records[-1])]
    line = f"train_loss {losses[0]} to {losses[1]}, {len(before)} parameters"
    return f"{line}, {summary['seconds']:.1f} s", complaints


def still(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Complaints about parameters that did not move, or are no longer finite."""
    wrong = [f"{name} did not move" for name in before if before[name].equal(after[name].detach())]
    wrong += [f"{n} is not finite" for n, value in after.items() if not value.isfinite().all()]
    return wrong or ([] if before else ["nothing is said to move"])


def rising(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Complaints about a training loss that did not fall from the first evaluations to the last.

    Means of the first and of the last third of them. Where the task became harder meanwhile
    (``level``), it was learned, and losses don't compare.
    """
    losses = [metrics.get("train_loss") for metrics in records]
    if len(losses) < 2:
        return ["it takes two evaluations to see a loss fall: eval.every is too large"]
    known = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    if len(known) < len(losses):
        return ["train_loss is not finite, or missing"]
    if records[-1].get("level", 0) > records[0].get("level", 0):
        return []
    third = max(len(known) // 3, 1)
    first, last = sum(known[:third]) / third, sum(known[-third:]) / third
    return [] if last < first else [f"train_loss did not fall: {first:.4g} to {last:.4g}"]
