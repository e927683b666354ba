"""Finding and building an environment by the name a configuration gives it."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import gymnasium
import pettingzoo

from dnicomm.errors import UserError, error_line, nearest, user_frame
from dnicomm.runs import trust

MAKERS = ("parallel_env", "env", "raw_env")  # what a module of an environment builds it by


def build(id: str, kwargs: Mapping[str, Any], maker: Callable[..., Any]) -> Any:
    """One environment; whatever ``maker`` raises becomes a UserError."""
    try:
        return maker(**kwargs)
    except (Exception, SystemExit) as error:
        given = f" with env.kwargs={dict(kwargs)}" if kwargs else ""
        place = user_frame(error) or ""
        raise UserError(f"env.id={id} can't be built{given}: {error_line(error)}{place}") from error


def find(id: str) -> Callable[..., Any]:
    """What builds the environment called ``id``."""
    registered, unregistered = _registered(id)
    if registered is not None:
        return registered
    where = f"env.id={id}"
    if "/" not in id:
        trust.check_module(where, id.partition(":")[0], trust.ENVIRONMENTS)
    if "/" in id:
        raise UserError(f"env.id={id}: {unregistered}")
    found = _import(id)
    if isinstance(found, ModuleType):
        makers = [getattr(found, name) for name in MAKERS if callable(getattr(found, name, None))]
        if not makers:
            raise UserError(f"env.id={id}: the module has none of {', '.join(MAKERS)}")
        _check_version(where, found)
        found = makers[0]
    elif trust.is_confined() and not _is_trusted(found):
        _check_environment(where, found, id)
    trust.check_object(where, found, trust.ENVIRONMENTS)
    if not callable(found):
        raise UserError(
            f"env.id={id} is a {type(found).__name__}; allowed: a module, or a class or function "
            "that returns an environment"
        )
    maker: Callable[..., Any] = found
    return maker


def _registered(id: str) -> tuple[Callable[..., Any] | None, str]:
    """What builds a registered environment; or None, and why there is none."""
    if not hasattr(pettingzoo, "make"):
        return None, "this version of PettingZoo has no registry; name a module"
    problem = ""
    for kind in ("parallel", "aec"):
        try:
            spec = pettingzoo.spec(kind, id)
        except Exception as error:  # unknown name, space or version: no public class in common
            problem = error_line(error)
        else:
            check_entry_point(f"env.id={id}", spec.entry_point)
            return functools.partial(pettingzoo.make, kind, id), ""
    return None, problem


def check_entry_point(where: str, entry_point: Any) -> None:
    """Check that what a registry builds may be imported: ``module:name``, or the object itself.

    Raises:
        UserError: it may not.
    """
    if isinstance(entry_point, str):
        trust.check_module(where, entry_point.partition(":")[0], trust.ENVIRONMENTS)
    elif entry_point is not None:
        trust.check_object(where, entry_point, trust.ENVIRONMENTS)


def check_registered(id: str) -> None:
    """Check that what ``gymnasium.make`` would import for an id may be imported.

    Raises:
        UserError: it may not.
    """
    if not trust.is_confined():
        return
    where = f"env.id={id}"
    module, colon, _ = id.partition(":")
    if colon:
        trust.check_module(where, module, ())
        importlib.import_module(module)
    try:
        spec = gymnasium.spec(id)
    except Exception as error:
        raise UserError(f"{where}: {error_line(error)}") from error
    for entry_point in (spec.entry_point, *(w.entry_point for w in spec.additional_wrappers)):
        check_entry_point(where, entry_point)


def _is_trusted(found: Any) -> bool:
    """Whether something comes from a package that the user named."""
    return trust.lies_in(str(getattr(found, "__module__", "")), trust.trusted())


def _check_version(where: str, module: ModuleType) -> None:
    """Of packages that the user did not name, only modules of environments are asked for one.

    Raises:
        UserError: it is none; they are called after their version, ``simple_spread_v3``.
    """
    if not trust.is_confined() or trust.lies_in(module.__name__, trust.trusted()):
        return
    if not re.search(r"_v\d+$", module.__name__):
        raise UserError(f"{where}: {module.__name__} is no environment's module")


def _check_environment(where: str, found: Any, id: str) -> None:
    """Of packages that the user did not name, only environments are built.

    Raises:
        UserError: it is another class, or a function that does something else.
    """
    kinds = (pettingzoo.AECEnv, pettingzoo.ParallelEnv)
    if inspect.isclass(found) and issubclass(found, kinds):
        return
    module, _, name = id.replace(":", ".").rpartition(".")
    if not inspect.isfunction(found) or name not in MAKERS or not re.search(r"_v\d+$", module):
        raise UserError(f"{where}: {name} of {module} is no environment")


def _import(id: str) -> Any:
    """The module that ``id`` names, or the object in it."""
    path, _, attribute = id.partition(":")
    names = attribute.split(".") if attribute else []
    try:
        try:
            found: Any = importlib.import_module(path)
        except ModuleNotFoundError as error:
            # The last part may be a name inside a module; but what a module that exists fails to
            # import is for the user to see.
            parent, _, name = path.rpartition(".")
            if error.name != path or not parent or attribute:
                raise
            found = importlib.import_module(parent)
            if not hasattr(found, name):
                makers = [key for key, value in vars(found).items()
                          if callable(value) and not key.startswith("_")]  # fmt: skip
                missing = f"no module {path}, and no {name} in {parent}"
                raise UserError(f"env.id={id}: {missing}.{nearest(name, makers)}") from error
            names = [name]
        for name in names:
            found = getattr(found, name)
            if isinstance(found, ModuleType):  # that it imported for itself, say os
                trust.check_module(f"env.id={id}", found.__name__, trust.ENVIRONMENTS)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"env.id={id}: {error_line(error)}") from error
    return found
