"""Agents in time: clocks, channels, topologies, mail, worlds and the engine."""

from dnicomm.core import SGD, Adam
from dnicomm.sim.agent import Agent, AgentSpec, Inbox, Outcome, TickOutput
from dnicomm.sim.channel import (
    Channel,
    Delay,
    Drop,
    Noise,
    Quantise,
    Scarce,
    Series,
    standard_channel,
)
from dnicomm.sim.clock import (
    BurstyClock,
    Clock,
    JitteredClock,
    PeriodicClock,
    PoissonClock,
    TraceClock,
)
from dnicomm.sim.encoding import (
    GumbelSymbol,
    MessageEncoder,
    Occasion,
    OwnNormalizer,
    RegulariseDiscretise,
)
from dnicomm.sim.population import UtilitySettings
from dnicomm.sim.records import Evaluation, Override, Progress, Result
from dnicomm.sim.simulation import Simulation
from dnicomm.sim.topology import Chain, Complete, EdgeList, Ring, Star, Topology
from dnicomm.sim.world import AgentSpaces, ContextField, Env, World

__all__ = [
    "SGD",
    "Adam",
    "Agent",
    "AgentSpaces",
    "AgentSpec",
    "BurstyClock",
    "Chain",
    "Channel",
    "Clock",
    "Complete",
    "ContextField",
    "Delay",
    "Drop",
    "EdgeList",
    "Env",
    "Evaluation",
    "GumbelSymbol",
    "Inbox",
    "JitteredClock",
    "MessageEncoder",
    "Noise",
    "Occasion",
    "Outcome",
    "Override",
    "OwnNormalizer",
    "PeriodicClock",
    "PoissonClock",
    "Progress",
    "Quantise",
    "RegulariseDiscretise",
    "Result",
    "Ring",
    "Scarce",
    "Series",
    "Simulation",
    "Star",
    "TickOutput",
    "Topology",
    "TraceClock",
    "UtilitySettings",
    "World",
    "standard_channel",
]
