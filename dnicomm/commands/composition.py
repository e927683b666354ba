"""Hydra's own complaints in plain words: which key, which names are near, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dnicomm.commands.options import CONFIGS, manual, shipped
from dnicomm.commands.tree import Tree
from dnicomm.errors import UnknownKey, UserError, nearest


def explain(
    error: HydraException | OmegaConfBaseException, tree: Tree, words: Sequence[str]
) -> UserError:
    """The same in one or two lines.

    Args:
        error: what Hydra raised.
        tree: what it was composing.
        words: the overrides.
    """
    if isinstance(error, OverrideParseException):
        return _parse(error, tree)
    if isinstance(error, MissingConfigException):
        return _option(error, tree)
    text = str(error)
    if isinstance(error, OmegaConfBaseException):
        key = error.full_key or error.key
        return UserError(f"{key}: {_first_lines(text)}" if key else _first_lines(text))
    if isinstance(error, ConfigCompositionException):
        match = re.search(r"Could not override '([^']+)'\.\nTo append to your config use", text)
        if match:
            return _key(match[1], text, tree, words)
        match = re.search(r"Could not delete from config\. '([^']+)'", text)
        if match:
            return _key(match[1], text, tree, words)
        if text.startswith("Ambiguous value for argument"):
            word = text.split("'")[1]
            key, _, value = word.partition("=")
            return UserError(f"{word}: write -m for one run a value, or {key}=[{value}] for a list")
        match = re.match(r"Multiple values for (\w+)\.", text)
        if match:
            return UserError(f"{match[1]} is chosen twice: write {match[1]}=OPTION, without a +")
    if isinstance(error.__cause__, OmegaConfBaseException):
        text = f"{text} {error.__cause__}"
    return UserError(_first_lines(text))


def explain_other(error: OSError | ValueError, tree: Tree, words: Sequence[str]) -> UserError:
    """What Hydra raises beside its own exceptions: for folders it can't make, and odd options."""
    if isinstance(error, OSError) and error.filename is not None:
        return UserError(f"{error.filename} cannot be a run folder: {error.strerror}")
    for word in words:
        group, _, name = word.partition("=")
        if group in tree.groups and name not in tree.options(group):
            return unknown_option(group, name, tree.options(group))
    return UserError(_first_lines(str(error)))


def untyped(error: UnknownKey, choices: Mapping[str, str], words: Sequence[str]) -> UserError:
    """The same, and who brought a key that nobody typed.

    Args:
        choices: the option chosen of each group.
        words: the overrides.
    """
    if any(word.lstrip("+~").partition("=")[0] == error.key for word in words):
        return error
    for group, name in choices.items():
        if name in {option.name for option in shipped(CONFIGS, group)}:
            brought: Any = OmegaConf.create(manual(group, name))
            if OmegaConf.select(brought, error.key) is not None:
                leave = f"It comes with {group}={name}; to leave it out: '~{error.key}'"
                return UserError(f"{error} {leave}")
    return error


def unknown_option(group: str, name: str, known: Iterable[str]) -> UserError:
    """The complaint about an option that a group does not have, with the nearest ones."""
    return UserError(f"{group}={name}: there is no such {group}.{nearest(name, known)}")


def _parse(error: OverrideParseException, tree: Tree) -> UserError:
    word = error.override
    if "=" not in word:
        owners = [group for group in tree.groups if word in tree.options(group)]
        hint = f" Did you mean {owners[0]}={word}?" if owners else ""
        return UserError(f"{word}: must be KEY=VALUE, e.g. seed=1.{hint}")
    key, _, value = word.partition("=")
    where = key.lstrip("+~") or word
    hint = ""
    if "," in value and "-m" not in value:
        hint = "; lists are [a,b], without spaces or in quotes"
    return UserError(f"{where}={value}: this value can't be read{hint}. "
                     f"Put text with special characters in quotes: '{where}=\"…\"'")  # fmt: skip


def _option(error: MissingConfigException, tree: Tree) -> UserError:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return UserError(_first_lines(str(error)))
    return unknown_option(
        group, name, tree.options(group) if group in tree.groups else error.options or []
    )


def _key(key: str, text: str, tree: Tree, words: Sequence[str]) -> UserError:
    if key in tree.groups:  # a group that has no options yet is no group to Hydra
        return unknown_option(key, text.rpartition(f"{key}=")[2], tree.options(key))
    parent, _, name = key.rpartition(".")
    return UserError(f"{key}: there is no such key.{nearest(name, tree.keys(parent, words))}")


def _first_lines(text: str) -> str:
    """The first lines of what Hydra says, without its pointers to its manual."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("See http", "full_key",
            "object_type", "reference_type", "Config search path", "provider="))]  # fmt: skip
    return " ".join(kept[:3])
