"""``dnicomm run``: one configuration or a sweep, composed by Hydra, built, trained and shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from dnicomm.commands.launching import launch
from dnicomm.commands.options import CONFIGS, GROUPS, options, register_plugins
from dnicomm.commands.tree import Tree

TREE = Tree(
    package=CONFIGS,
    name="config",
    groups={group: partial(options, group) for group in GROUPS},
    # groups whose class may be anybody's and take any key
    open=re.compile(r"((agents?|env|clock|channel|topology|utility|optimizer)\.[^=]+|agents)="),
)


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; the exit code.

    Raises:
        UserError: if something in them is wrong.
    """
    register_plugins()
    return launch(TREE, arguments)
