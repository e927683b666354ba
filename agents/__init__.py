"""Agents to use, to copy and to change."""

if __name__ != "dnicomm.agents":
    raise ImportError("import dnicomm.agents (this folder is installed under that name)")

from dnicomm.agents.actor_critic import PPO, ActorCritic, RecurrentActorCritic, RecurrentPPO
from dnicomm.agents.feedforward import FeedForward
from dnicomm.agents.recurrent import GatedCell, Recurrent
from dnicomm.sim.agent import Agent

__all__ = [
    "PPO",
    "ActorCritic",
    "Agent",
    "FeedForward",
    "GatedCell",
    "Recurrent",
    "RecurrentActorCritic",
    "RecurrentPPO",
]
