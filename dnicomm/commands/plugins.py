"""Classes that a configuration names: found, their options checked, and made.

``_target_`` is a dotted path, ``my_module.MyAgent`` or ``my_module:MyAgent``. Modules in the
working folder are found too. What a name leads to is called only if it is a class of the right
kind, or a function annotated to return one, since a configuration may come from somebody else;
while :mod:`dnicomm.runs.trust` confines imports, only if it lies where code may come from.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from dnicomm.commands.values import MISSING, below, conform, takes_list
from dnicomm.errors import UnknownKey, UserError, nearest
from dnicomm.runs import trust

Maker = Callable[..., Any]


def see_working_folder() -> None:
    """Make modules in the working folder importable, as ``python -m`` does.

    The working folder may be that of a stranger's run: while imports are confined, nothing in it
    stands in the place of an installed package, and nothing is seen that is not asked for.
    """
    here = os.getcwd()
    if here in sys.path:
        return
    if not trust.is_confined():
        sys.path.insert(0, here)
    elif any(not _is_installed(package.partition(".")[0]) for package in trust.trusted()):
        sys.path.append(here)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def find(where: str, target: Any, kind: type | None = None) -> Any:
    """What ``target`` names.

    Args:
        where: the key that it belongs to, for messages.
        target: a dotted path.
        kind: class that it has to be a subclass of, or a function returning one; None: any.

    Raises:
        UserError: if there is nothing of that name, of another kind, or it fails to import.
    """
    key = below(where, "_target_")
    if target in (None, MISSING, ""):
        raise UserError(f"{key} has to be given: {key}=my_module.{_example(where, kind)}")
    if not isinstance(target, str) or not ("." in target or ":" in target):
        raise UserError(f"{key}={target}: must be a dotted path, my_module.{_example(where, kind)}")
    found = look_up(f"{key}={target}", target)
    if kind is not None and not _is_of(found, kind):
        what = f"a {type(found).__name__}" if not inspect.isclass(found) else "a class"
        raise UserError(
            f"{key}={target} is {what}, and no {kind.__name__}: it must be a subclass of "
            f"{_public(kind)}, or a function annotated to return one (-> {kind.__name__})"
        )
    return found


def look_up(what: str, target: str) -> Any:
    """What is at the end of a dotted path, ``module.name`` or ``module:name``.

    Raises:
        UserError: if there is nothing, or its module fails to import; begins with ``what``.
    """
    module_name, _, name = target.rpartition(":" if ":" in target else ".")
    if not module_name:
        raise UserError(f"{what}: must be a dotted path, my_module.{name}")
    trust.check_module(what, module_name)
    module = import_module(what, module_name)
    if not hasattr(module, name):
        known = [n for n, value in vars(module).items() if inspect.isclass(value) and n[0] != "_"]
        raise UserError(f"{what}: {module_name} has no {name}.{nearest(name, known)}")
    found = getattr(module, name)
    trust.check_object(what, found)
    return found


def import_module(what: str, name: str) -> ModuleType:
    """A module, also from the working folder.

    Raises:
        UserError: if there is none, or it fails to import; begins with ``what``.
    """
    see_working_folder()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # only where the module itself is not there; what it fails to import is for its author
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"{what}: there is no module {error.name!r}, neither in the working folder nor "
                "installed"
            ) from None
        raise UserError(f"{what}: {name} failed to import: {say(error)}") from error
    except Exception as error:
        raise UserError(f"{what}: {name} failed to import: {say(error)}") from error


def options_of(maker: Maker, given: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
    """The options a maker takes, by name, without those that it is ``given`` otherwise."""
    return {name: p for name, p in _signature(maker).items() if name not in set(given)}


@functools.lru_cache(maxsize=64)  # asked for each of many agents
def _signature(maker: Maker) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(maker).parameters


def scalar_options(maker: Maker) -> set[str]:
    """Options annotated to take one plain value, never a list."""
    hints = _hints(maker)
    return {name for name in options_of(maker) if name in hints and not takes_list(hints[name])}


def check_options(
    where: str,
    maker: Maker,
    values: Mapping[str, Any],
    given: Iterable[str] = (),
    beside: Iterable[str] = (),
) -> dict[str, Any]:
    """``values`` as ``maker`` takes them.

    Args:
        where: the key they are under; "": the top.
        maker: a class or function.
        values: options from a configuration, without ``_target_``.
        given: parameters that it gets otherwise.
        beside: what else may stand where its options do, for messages.

    Raises:
        UnknownKey: if one is unknown.
        UserError: if one is missing or of the wrong type.
    """
    parameters, hints = options_of(maker, given), _hints(maker)
    named = {
        name: p
        for name, p in parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    checked = {}
    for key, value in values.items():
        name = below(where, key)
        if key not in named and not anything:
            known = nearest(key, [*named, *beside])
            raise UnknownKey(name, f"{name_of(maker)} has no such option.{known}")
        if value == MISSING:
            raise UserError(f"{name} has to be given: {name}=…")
        checked[key] = conform(name, value, hints.get(key, Any))
    for key, p in named.items():
        if p.default is p.empty and key not in checked:
            name = below(where, key)
            raise UserError(f"{name} has to be given: {name}=…")
    return checked


def make(where: str, maker: Maker, values: Mapping[str, Any], *arguments: Any) -> Any:
    """Call ``maker``; what it raises is shown with where in its own code it came from.

    Raises:
        UserError: if it raises anything.
    """
    try:
        return maker(*arguments, **values)
    except UserError:
        raise
    except Exception as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in values.items())
        prefix = f"{where}: " if where else ""
        raise UserError(f"{prefix}{name_of(maker)}({shown}) failed: {say(error)}") from error


def name_of(maker: Maker) -> str:
    """What a class or function is called."""
    return getattr(maker, "__name__", type(maker).__name__)


def say(error: BaseException) -> str:
    """An exception in one line, as a traceback ends, and the line of code it came from."""
    text = str(error).strip().splitlines()
    line = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", os.path.dirname(__file__)))
        and "site-packages" not in frame.filename
        and not frame.filename.startswith(os.path.dirname(os.__file__))
    ]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{line.split(' (')[0]} ({os.path.basename(error.filename)}, line {error.lineno})"
    if frames:
        return f"{line} ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})"
    return line


def kind_of(found: Any) -> type | None:
    """A class itself, or what a function is annotated to return; None if that is no class."""
    if inspect.isfunction(found):
        found = _hints(found).get("return")
    return found if inspect.isclass(found) else None


def _is_of(found: Any, kind: type) -> bool:
    made = kind_of(found)
    return made is not None and issubclass(made, kind)


@functools.lru_cache(maxsize=64)
def _hints(maker: Maker) -> dict[str, Any]:
    """Annotations of what a maker takes and returns; none where they can't be read."""
    try:
        return typing.get_type_hints(maker.__init__ if inspect.isclass(maker) else maker)
    except Exception:  # names that exist for type checkers only
        return {}


def _public(kind: type) -> str:
    package = ".".join(kind.__module__.split(".")[:2])  # dnicomm.core, dnicomm.sim, dnicomm.bench
    return f"{package}.{kind.__name__}"


def _example(where: str, kind: type | None) -> str:
    name = kind.__name__ if kind is not None else where.rpartition(".")[2].title()
    return f"My{name}"
