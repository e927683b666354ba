"""Agents to use, to copy and to change."""

if __name__ != "dnicomm.agents":
    raise ImportError("import dnicomm.agents (this folder is installed under that name)")

from dnicomm.agents.actor_critic import ActorCritic, RecurrentActorCritic
from dnicomm.agents.feedforward import FeedForward
from dnicomm.agents.recurrent import GatedCell, Recurrent
from dnicomm.sim.agent import Agent

__all__ = [
    "ActorCritic",
    "Agent",
    "FeedForward",
    "GatedCell",
    "Recurrent",
    "RecurrentActorCritic",
]
