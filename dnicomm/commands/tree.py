"""A tree of configuration files that a command composes: its groups, options and keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf

from dnicomm.commands.options import Option


@dataclass(frozen=True)
class Tree:
    """What Hydra composes for a command.

    Args:
        package: of the primary configuration.
        name: of its file, without ``.yaml``.
        groups: by name, what lists a group's options.
        open: matches ``KEY=`` where any key will do, because its class's signature is what keys
            are checked against; None: nowhere.
        notes: kept in the run folder's configuration, beside it.
    """

    package: str
    name: str
    groups: Mapping[str, Callable[[], list[Option]]]
    open: re.Pattern[str] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def options(self, group: str) -> list[str]:
        """Names of a group's options."""
        return [option.name for option in self.groups[group]()]

    def is_open(self, word: str) -> bool:
        """Whether an override's key is one that Hydra shall not check."""
        return self.open is not None and self.open.match(word) is not None

    def keys(self, parent: str, words: Sequence[str]) -> Iterable[str]:
        """The keys below one of the configuration's own, or of Hydra's.

        Args:
            parent: the key above; "": the top.
            words: overrides, of which the choices of options count.
        """
        from hydra import compose, initialize_config_module
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        with initialize_config_module(self.package, version_base="1.3"):
            config: Any = compose(self.name, self._choices(words), return_hydra_config=True)
        section = OmegaConf.select(config, parent) if parent else config
        if not OmegaConf.is_dict(section):
            return []
        known = [str(key) for key in section]
        return known if parent else {*known, *self.groups} - {"hydra"}

    def _choices(self, words: Sequence[str]) -> list[str]:
        pairs = [word.partition("=") for word in words]
        return [
            f"{group}={name}"
            for group, _, name in pairs
            if group in self.groups and name in self.options(group)
        ]
