"""Finding and building an environment by the name a configuration gives it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pettingzoo

from dnicomm.errors import UserError, error_line, nearest, user_frame


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
    if "/" in id:
        raise UserError(f"env.id={id}: {unregistered}")
    found = _import(id)
    if isinstance(found, ModuleType):
        names = ("parallel_env", "env", "raw_env")
        makers = [getattr(found, name) for name in names if callable(getattr(found, name, None))]
        if not makers:
            raise UserError(f"env.id={id}: the module has none of {', '.join(names)}")
        found = makers[0]
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
            pettingzoo.spec(kind, id)
        except Exception as error:  # unknown name, space or version: no public class in common
            problem = error_line(error)
        else:
            return functools.partial(pettingzoo.make, kind, id), ""
    return None, problem


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
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"env.id={id}: {error_line(error)}") from error
    return found
