"""A configuration made into a simulation."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import typing
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from dnicomm.commands.device import device_of
from dnicomm.commands.keys import check_keys
from dnicomm.commands.plugins import check_options, find, make
from dnicomm.commands.ranges import check_ranges
from dnicomm.commands.sections import (
    Section,
    made,
    made_if_any,
    merged,
    no_keys,
    options_in,
    own_mapping,
)
from dnicomm.commands.timing import clocks
from dnicomm.commands.values import refusal
from dnicomm.core import RowOptimizer, UtilityModel
from dnicomm.errors import UserError
from dnicomm.sim import (
    Agent,
    AgentSpec,
    Channel,
    Env,
    Evaluation,
    GumbelSymbol,
    Inbox,
    MessageEncoder,
    Override,
    RegulariseDiscretise,
    Simulation,
    Topology,
    UtilitySettings,
)
from dnicomm.sim.random import global_seed
from dnicomm.sim.records import AgentFactory

ENCODERS: dict[str, Callable[[], MessageEncoder]] = {
    "gumbel": GumbelSymbol,
    "dru": RegulariseDiscretise,
}
OWN = ("clock", "optimizer", "window")  # keys of agents.<name> that are no option of the agent
SIZES = ("message_size", "context_size", "num_classes")  # what a utility model is told


def build(config: Section) -> Simulation:
    """The simulation that a configuration describes.

    Args:
        config: plain mappings, lists and values, as in a run folder.

    Raises:
        UserError: if something in it is wrong; names the key and what is allowed.
    """
    config = check_keys(config)
    device = device_of(config["device"])
    env = made("env", config["env"], Env)
    agents = {name: _split(own) for name, own in config["agents"].items()}
    apart = {name: rest for name, (_, rest) in agents.items()}
    discrete = config["message"]["discrete"]
    simulation = Simulation(
        env=env,
        agent=_agent("agent", config["agent"]),
        agents={name: _override(config, name, *parts) for name, parts in agents.items()},
        # asked once the training worlds are there, which know their agents: no others are built
        clocks=lambda world: clocks(config["clock"], apart, world, env.name),
        channel=made("channel", config["channel"], Channel),
        topology=made_if_any("topology", config["topology"], Topology),
        message_size=config["message"]["size"],
        normalise=config["message"]["normalise"],
        discrete=None if discrete is None else ENCODERS[discrete](),
        share_parameters=config["share_parameters"],
        utility=_utility(config["utility"]),
        feedback=config["feedback"],
        feedback_share=config["feedback_share"],
        gradient_scale=config["gradient_scale"],
        optimizer=_optimizer("optimizer", config["optimizer"]),
        window=config["window"],
        exact_window=config["exact_window"],
        gamma=config["gamma"],
        gae_lambda=config["gae_lambda"],
        num_worlds=config["num_worlds"],
        evaluation=Evaluation(**config["eval"]),
        seed=config["seed"],
        device=device,
        threads=config["threads"],
    )
    with simulation.opened:  # closed if it is refused
        _check_learning(simulation)
    return simulation


def _check_learning(simulation: Simulation) -> None:
    """Nobody would learn anything from rewards with a loss that wants labels."""
    world = simulation.world
    agents = [population.agents.template for population in simulation.populations]
    supervised = all(getattr(type(agent), "loss", None) is Agent.loss for agent in agents)
    if world.rewards and supervised and world.labels([0]) is None:
        raise UserError(
            f"agent: {type(agents[0]).__name__} learns from labels, and {simulation.env.name} "
            "gives rewards; use agent=actor_critic or one with a loss of its own"
        )
    for population in simulation.populations if not world.rewards else ():
        if _has_value(population.agents.template, world.device):
            raise UserError(
                f"agent: {type(population.agents.template).__name__} of {population.names[0]} "
                f"learns from rewards, and {simulation.env.name} gives none; use "
                "agent=feedforward, agent=recurrent or one with a loss of its own and no value"
            )


@torch.no_grad()
def _has_value(agent: Any, device: torch.device) -> bool:
    """Whether an agent's tick gives a value, which is of use where rewards are only."""
    if type(agent).loss is Agent.loss:
        return False
    spec, worlds = agent.spec, 2
    inbox = Inbox(
        torch.zeros(worlds, spec.num_inputs, spec.message_size, device=device),
        torch.zeros(worlds, spec.num_inputs, dtype=torch.bool, device=device),
        torch.zeros(worlds, spec.num_inputs, device=device),
    )
    observation = torch.zeros(worlds, *spec.observation_shape, device=device)
    try:  # with a copy: a tick may change buffers
        state = pytree.tree_map(lambda leaf: leaf.to(device), agent.initial_state(worlds))
        with global_seed(0, "probe"):
            output = copy.deepcopy(agent).tick(observation, inbox, state)
    except Exception:  # the run says where
        return False
    return getattr(output, "value", None) is not None


# -- agents ---------------------------------------------------------------------------------------


def _split(own: Section) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``agents.<name>`` holds: the agent's own options, and what else it has of its own."""
    kept = {key: value for key, value in own.items() if key not in OWN}
    return kept, {key: own[key] for key in OWN if key in own}


def _agent(where: str, section: Section) -> AgentFactory:
    cls = find(where, section.get("_target_"), Agent)
    if getattr(cls, "tick", None) is Agent.tick:
        raise UserError(f"{where}: {cls.__name__} has no tick(self, observation, inbox, state)")
    spec = list(inspect.signature(cls).parameters)[:1]
    beside = OWN if where.startswith("agents.") else ()
    values = check_options(where, cls, options_in(section), given=spec, beside=beside)
    check_ranges(where, cls, values)

    def factory(spec: AgentSpec) -> Agent:
        return typing.cast(Agent, make(where, cls, values, spec))

    factory.__name__ = cls.__name__
    return factory


def _override(config: Section, name: str, agent: Section, own: Section) -> Override:
    where = f"agents.{name}"
    section = merged(config["agent"], agent)
    differs = section != config["agent"]
    optimizer = merged(config["optimizer"], own_mapping(where, own, "optimizer"))
    window = own.get("window")
    if window is not None and (type(window) is not int or window < 1):
        raise refusal(f"{where}.window", window, "a whole number of at least 1, or null")
    return Override(
        agent=_agent(where, section) if differs else None,
        key=json.dumps(section, sort_keys=True) if differs else None,
        optimizer=_optimizer(f"{where}.optimizer", optimizer) if "optimizer" in own else None,
        window=window,
    )


# -- what learns ----------------------------------------------------------------------------------


def _optimizer(where: str, section: Section) -> RowOptimizer:
    maker = find(where, section.get("_target_"))
    if not (inspect.isclass(maker) and hasattr(maker, "init") and hasattr(maker, "step")):
        target = section["_target_"]
        raise UserError(f"{where}._target_={target}: must be a class with init and step, like "
                        "dnicomm.core.Adam")  # fmt: skip
    values = check_options(where, maker, options_in(section))
    check_ranges(where, maker, values)
    return typing.cast(RowOptimizer, make(where, maker, values))


def _utility(section: Section) -> UtilitySettings | None:
    if section.get("_target_") is None:
        # an environment's option may set a rate for the utility model that is left out here
        no_keys("utility", {key: value for key, value in section.items() if key != "lr"})
        return None
    cls = find("utility", section["_target_"], UtilityModel)
    apart = {key: section[key] for key in ("context", "lr") if key in section}
    rest = {key: value for key, value in options_in(section).items() if key not in apart}
    values = check_options("utility", cls, rest, given=SIZES)
    check_ranges("utility", cls, values)
    context = apart.get("context")
    if context is not None and (isinstance(context, str) or not isinstance(context, Sequence)):
        raise refusal("utility.context", context, "a list of names, or null")
    adam = {"_target_": "dnicomm.core.Adam", "lr": apart.get("lr", 3e-3)}

    def factory(**sizes: Any) -> UtilityModel:
        return typing.cast(UtilityModel, make("utility", cls, {**sizes, **values}))

    functools.update_wrapper(factory, cls)  # its signature says whether it takes a label
    return UtilitySettings(factory, _optimizer("utility", adam), context)
