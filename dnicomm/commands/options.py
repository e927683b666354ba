"""The groups of a configuration and their options, ours and other packages'. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.resources import files

# group of the configuration -> entry-point group for other packages' options
GROUPS = {
    "env": "dnicomm.envs",
    "agent": "dnicomm.agents",
    "clock": "dnicomm.clocks",
    "channel": "dnicomm.channels",
    "topology": "dnicomm.topologies",
    "utility": "dnicomm.utilities",
    "optimizer": "dnicomm.optimizers",
    "recipe": None,  # whole experiments: no class behind them
}
CONFIGS = "dnicomm.configs"


@dataclass(frozen=True)
class Option:
    """One choice in a group."""

    group: str
    name: str
    line: str  # what it is, in one line
    target: str | None = None  # of another package's option, the class as ``module:name``


def options(group: str) -> list[Option]:
    """All options of a group, sorted; ours come before another package's of the same name."""
    found = {option.name: option for option in [*plugins(group), *shipped(CONFIGS, group)]}
    return [found[name] for name in sorted(found)]


def plugins(group: str) -> Iterator[Option]:
    """Options that other packages bring, by their entry points."""
    entry_group = GROUPS[group]
    if entry_group is None:
        return
    for point in entry_points(group=entry_group):
        where = point.value if point.dist is None else f"{point.value}, from {point.dist.name}"
        yield Option(group, point.name, where, point.value)


def manual(*names: str, package: str = CONFIGS) -> str:
    """One of our configuration files with its comments, e.g. ``manual("clock", "none")``."""
    folder = files(package).joinpath(*names[:-1])
    return folder.joinpath(f"{names[-1]}.yaml").read_text(encoding="utf-8")


def register_plugins() -> None:
    """Make other packages' options known to Hydra, as ``group=name``."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for group in GROUPS:
        for option in plugins(group):
            store.store(name=option.name, node={"_target_": option.target}, group=group)


def shipped(package: str, group: str) -> Iterator[Option]:
    """Options whose files lie in a package; none if it has no such group."""
    folder = files(package) / group
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        if file.name.endswith(".yaml"):
            text = file.read_text(encoding="utf-8")
            yield Option(group, file.name.removesuffix(".yaml"), first_comment(text))


def first_comment(text: str) -> str:
    """The first comment of a configuration file: what it is, in one line."""
    for line in text.splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            line = line.removeprefix("#").strip()
            whole, _, _ = line.rpartition(". ")
            # a sentence that goes on in the next line is left out
            return line if line.endswith((".", "?")) or not whole else f"{whole}."
    return ""
