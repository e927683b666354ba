"""``dnicomm check``: what a plug-in gets wrong, in plain words. Exit code 1 if anything."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pettingzoo import AECEnv, ParallelEnv
from torch import nn

from dnicomm.commands.arguments import Parser
from dnicomm.commands.check_foreign import check_gymnasium, check_pettingzoo, is_module
from dnicomm.commands.options import GROUPS, manual, options
from dnicomm.commands.plugins import check_options, kind_of, look_up, make, scalar_options
from dnicomm.commands.timing import spread
from dnicomm.core import UtilityModel
from dnicomm.errors import UserError, nearest
from dnicomm.sim import Channel, Clock, Env
from dnicomm.testing import check_agent, check_channel, check_clock, check_env, check_utility

SIZES = ("message_size", "context_size", "num_classes")
ALLOWED = (
    "an Agent, Env, Clock, Channel or UtilityModel, a PettingZoo environment (a module, class or "
    "function) or a gymnasium.Env"
)
MADE = (
    (Env, "an environment", check_env),
    (Clock, "a clock", check_clock),
    (Channel, "a channel", check_channel),
)


def main(arguments: Sequence[str]) -> int:
    """Check what the arguments name; the exit code.

    Raises:
        UserError: if there is no such thing, or it is nothing that can be checked.
    """
    parser = Parser("dnicomm check", description="Say what a plug-in gets wrong.")
    parser.add_argument(
        "target", metavar="TARGET", help=f"{ALLOWED}; or an option, such as agent=recurrent"
    )
    parser.add_argument("options", metavar="KEY=VALUE", nargs="*", default=[],
                        help="what it takes")  # fmt: skip
    given = parser.parse_intermixed_args(arguments)
    target, values = _named(given.target)
    kind, complaints = check(target, values | _values(given.options))
    if not complaints:
        print(f"{target}, {kind}: nothing to put right")
        return 0
    print(f"{target}, {kind}: {len(complaints)} to put right")
    for complaint in complaints:
        print(f"  - {complaint}")
    return 1


def check(target: str, values: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What ``target`` is, and what it gets wrong.

    Args:
        target: a dotted path.
        values: options it is made with.

    Raises:
        UserError: if there is no such thing, or it is nothing that can be checked.
    """
    if is_module(target):
        return "a PettingZoo module", check_pettingzoo(target, values)
    found = look_up(target, target)
    kind = kind_of(found)
    if kind is not None and issubclass(kind, UtilityModel):
        checked = check_options(target, found, values, SIZES)
        return "a utility model", check_utility(functools.partial(found, **checked))
    if kind is not None and issubclass(kind, nn.Module):
        spec = list(inspect.signature(found).parameters)[:1]
        checked = check_options(target, found, values, spec)
        return "an agent", check_agent(functools.partial(found, **checked) if checked else found)
    for base, name, checker in MADE:
        if kind is not None and issubclass(kind, base):
            scalars = scalar_options(found)  # a clock's list is one value an agent: the first's
            own = {key: spread(key, value, 0, key in scalars) for key, value in values.items()}
            return name, checker(make(target, found, check_options(target, found, own)))
    if kind is not None and issubclass(kind, gymnasium.Env):
        made = make(target, found, check_options(target, found, values))
        return "a Gymnasium environment", check_gymnasium(made)
    if callable(found) if kind is None else issubclass(kind, AECEnv | ParallelEnv):
        return "a PettingZoo environment", check_pettingzoo(target, values)
    raise UserError(f"{target} is none of what can be checked: {ALLOWED}")


def _named(word: str) -> tuple[str, dict[str, Any]]:
    """The dotted path that a word stands for, and an option's values."""
    group, equals, name = word.partition("=")
    if not equals:
        return word, {}
    if group not in GROUPS:
        raise UserError(f"{group}: there is no such group.{nearest(group, GROUPS)}")
    known = {option.name: option for option in options(group)}
    if name not in known:
        raise UserError(f"{word}: there is no such {group}.{nearest(name, known)}")
    target = known[name].target
    text = manual(group, name) if target is None else f"_target_: {target}"
    section: Any = OmegaConf.to_container(OmegaConf.create(text))
    section = section.get(group, section)  # an option may set other keys beside its group's
    target = section.pop("_target_", None)
    if target in (None, "???"):
        raise UserError(f"{word} stands for no class that could be checked")
    for key in ("context", "lr") if group == "utility" else ():
        section.pop(key, None)
    return target, section


def _values(words: Sequence[str]) -> dict[str, Any]:
    for word in words:
        if "=" not in word:
            raise UserError(f"{word}: must be KEY=VALUE")
    try:
        values: Any = OmegaConf.to_container(OmegaConf.from_dotlist(list(words)))
    except OmegaConfBaseException as error:
        raise UserError(f"{' '.join(words)}: {error}") from error
    return {str(key): value for key, value in values.items()}
