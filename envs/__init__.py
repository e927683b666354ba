"""Environments, and what makes environments of other people fit.

Names are looked up when they are used: PettingZoo and its dependencies take a second to import.
No module here has the name of something exported: once imported, it would stand in its place.
"""

if __name__ != "dnicomm.envs":
    raise ImportError("import dnicomm.envs (this folder is installed under that name)")

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dnicomm.envs.clock_wrapper import clocked
    from dnicomm.envs.counting import Counting
    from dnicomm.envs.exposed import ExposedEnv
    from dnicomm.envs.foreign import GymEnv, PettingZooEnv
    from dnicomm.envs.relay import Relay

_HOMES = {
    "Counting": "counting",
    "ExposedEnv": "exposed",
    "GymEnv": "foreign",
    "PettingZooEnv": "foreign",
    "Relay": "relay",
    "clocked": "clock_wrapper",
}

__all__ = ["Counting", "ExposedEnv", "GymEnv", "PettingZooEnv", "Relay", "clocked"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"dnicomm.envs.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
