"""Environments, and what makes environments of other people fit.

Names are looked up when they are used: PettingZoo and its dependencies take a second to import.
"""

if __name__ != "dnicomm.envs":
    raise ImportError("import dnicomm.envs (this folder is installed under that name)")

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dnicomm.envs.clocked import clocked
    from dnicomm.envs.counting import Counting
    from dnicomm.envs.foreign import GymEnv, PettingZooEnv
    from dnicomm.envs.relay import Relay

_HOMES = {
    "Counting": "counting",
    "GymEnv": "foreign",
    "PettingZooEnv": "foreign",
    "Relay": "relay",
    "clocked": "clocked",
}

__all__ = ["Counting", "GymEnv", "PettingZooEnv", "Relay", "clocked"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"dnicomm.envs.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
