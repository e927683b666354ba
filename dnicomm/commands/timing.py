"""The clocks of a configuration: one an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dnicomm.commands.options import options
from dnicomm.commands.plugins import check_options, find, make, scalar_options
from dnicomm.commands.sections import Section, merged, no_keys, options_in, own_mapping
from dnicomm.errors import UserError
from dnicomm.sim import Clock, World


def clocks(
    general: Section, agents: Mapping[str, Section], world: World, env: str
) -> dict[str, Clock]:
    """A clock for each agent; none at all where the environment sets who ticks when.

    Args:
        general: the configuration's ``clock``.
        agents: what some agents have of their own, by name; ``clock`` among it.
        world: whose agents they are.
        env: its name, for messages.

    Raises:
        UserError: if an option is wrong, or there is no clock where one is needed.
    """
    made: dict[str, Clock] = {}
    for place, name in enumerate(world.agents):
        where, section = "clock", dict(general)
        if "clock" in agents.get(name, {}):
            where = f"agents.{name}.clock"
            section = merged(general, own_mapping(f"agents.{name}", agents[name], "clock"))
        if section.get("_target_") is None:
            no_keys("clock", section)
            continue
        maker = find(where, section["_target_"], Clock)
        scalars = scalar_options(maker)
        values = {
            key: spread(f"{where}.{key}", value, place, key in scalars)
            for key, value in options_in(section).items()
        }
        try:
            made[name] = make(where, maker, check_options(where, maker, values))
        except UserError as error:  # a clock itself does not know what it is for
            text = str(error)
            whose = where.removesuffix(".clock")
            raise UserError(text if text.startswith(where) else f"{whose}: {text}") from error
    if world.schedule() is None and len(made) < len(world.agents):
        known = ", ".join(option.name for option in options("clock") if option.name != "none")
        raise UserError(f"clock=none: {env} does not set itself who ticks when; allowed: {known}")
    return made


def spread(where: str, value: Any, place: int, scalar: bool) -> Any:
    """The value for the agent at ``place``, where a list is one value an agent."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    if scalar or (value and all(isinstance(item, list | tuple) for item in value)):
        if not value:
            raise UserError(
                f"{where}=[]: must be one value, or a list of one for "
                "each agent, from the first again where it is too short"
            )
        return value[place % len(value)]
    return value
