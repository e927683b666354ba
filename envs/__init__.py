"""Environments, and what makes environments of other people fit.

Names are looked up when they are used: PettingZoo and its dependencies take a second to import.
No module here has the name of something exported: once imported, it would stand in its place.
"""

if __name__ != "dnicomm.envs":
    raise ImportError("import dnicomm.envs (this folder is installed under that name)")

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dnicomm.envs.action_hold import clocked_parallel
    from dnicomm.envs.averaging import Averaging
    from dnicomm.envs.channel_wrapper import channelled
    from dnicomm.envs.clock_wrapper import clocked
    from dnicomm.envs.consensus import Consensus
    from dnicomm.envs.counting import Counting
    from dnicomm.envs.exposed import ExposedEnv
    from dnicomm.envs.foreign import GymEnv, PettingZooEnv
    from dnicomm.envs.naming import Naming
    from dnicomm.envs.predator_prey import PredatorPrey
    from dnicomm.envs.reference import Reference
    from dnicomm.envs.relay import Relay
    from dnicomm.envs.signalling import Signalling
    from dnicomm.envs.speaker_listener import SpeakerListener
    from dnicomm.envs.steering import Steering
    from dnicomm.envs.switch import Switch
    from dnicomm.envs.traffic import Traffic

_HOMES = {
    "Averaging": "averaging",
    "Consensus": "consensus",
    "Counting": "counting",
    "ExposedEnv": "exposed",
    "GymEnv": "foreign",
    "Naming": "naming",
    "PettingZooEnv": "foreign",
    "PredatorPrey": "predator_prey",
    "Reference": "reference",
    "Relay": "relay",
    "Signalling": "signalling",
    "SpeakerListener": "speaker_listener",
    "Steering": "steering",
    "Switch": "switch",
    "Traffic": "traffic",
    "channelled": "channel_wrapper",
    "clocked": "clock_wrapper",
    "clocked_parallel": "action_hold",
}

__all__ = [
    "Averaging",
    "Consensus",
    "Counting",
    "ExposedEnv",
    "GymEnv",
    "Naming",
    "PettingZooEnv",
    "PredatorPrey",
    "Reference",
    "Relay",
    "Signalling",
    "SpeakerListener",
    "Steering",
    "Switch",
    "Traffic",
    "channelled",
    "clocked",
    "clocked_parallel",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"dnicomm.envs.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
