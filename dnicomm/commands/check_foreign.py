"""Checks of PettingZoo's and Gymnasium's environments: their own tests, then ours."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.utils.env_checker import check_env as gymnasium_test
from pettingzoo import AECEnv
from pettingzoo.test import api_test, parallel_api_test

from dnicomm.commands.plugins import import_module, say, see_working_folder
from dnicomm.envs import PettingZooEnv
from dnicomm.envs.lookup import build, find
from dnicomm.errors import UserError
from dnicomm.sim.closing import OpenThings
from dnicomm.testing import check_env

CYCLES = 100  # turns or steps in a test of PettingZoo's
WORLDS = 2


def is_module(target: str) -> bool:
    """Whether a dotted path leads to a module, rather than to something in one."""
    see_working_folder()
    try:
        return importlib.util.find_spec(target) is not None
    except Exception:  # of a package above it; looking it up says which
        return False


def check_pettingzoo(target: str, values: Mapping[str, Any]) -> list[str]:
    """What a PettingZoo environment gets wrong.

    Args:
        target: a module, or a class or function in one.
        values: what builds it takes.

    Raises:
        UserError: if it can't be found or built.
    """
    if is_module(target):
        module = import_module(target, target)
        if not any(hasattr(module, name) for name in ("parallel_env", "env", "raw_env")):
            raise UserError(
                f"{target} is a module without parallel_env, env or raw_env, so no PettingZoo "
                f"environment; name what is in it: {target}.MyAgent"
            )
    with OpenThings() as opened:
        env = opened.add(build(target, values, find(target)), target)
        in_turns = isinstance(env, AECEnv)
        test: Callable[[], Any] = lambda: (api_test if in_turns else parallel_api_test)(env, CYCLES)  # noqa: E731
        complaints = _said(f"PettingZoo's {'api_test' if in_turns else 'parallel_api_test'}", test)
        opened.close()  # before others are built: there may be room for one only
    return complaints + _check_copies(PettingZooEnv(target, values or None))


def _check_copies(env: PettingZooEnv) -> list[str]:
    """Check some copies side by side; where only one can exist, say so, and check that one."""
    together = check_env(env, WORLDS)
    if len(together) != 1 or not together[0].startswith("make failed"):
        return together
    alone = check_env(env, 1)
    if any(complaint.startswith("make failed") for complaint in alone):
        return together
    use = f"{WORLDS} copies can't exist side by side: train with num_worlds=1 eval.worlds=shared"
    return [f"{use} ({together[0]})", *alone]


def check_gymnasium(env: gymnasium.Env) -> list[str]:
    """What a single-agent environment gets wrong."""
    with OpenThings() as opened:
        opened.add(env, str(env))
        found = _said("Gymnasium's check_env", lambda: gymnasium_test(env, skip_render_check=True))
        opened.close()
    return found


def _said(name: str, test: Callable[[], Any]) -> list[str]:
    """The complaint of somebody else's test, which it raises; what it prints is not shown."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            test()
        except Exception as error:
            return [f"{name}: {say(error)}"]
    return []
