"""A configuration made into an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dnicomm.bench import Experiment
from dnicomm.commands.device import device_of
from dnicomm.commands.keys import ADDED, check_device, check_threads, checked, section
from dnicomm.commands.loggers import check_logger
from dnicomm.commands.plugins import check_options, find, make
from dnicomm.commands.values import mapping, whole

# what a run notes beside its configuration
NOTES = ("bench", "choices", "overrides")
# keys that all experiments have, of which the class is not told those of COMMAND
SHARED: Mapping[str, Callable[[str, Any], Any]] = {
    "method": partial(mapping, of="one of its options (dnicomm bench) or a mapping"),
    "eval": partial(section, {"every": partial(whole, least=1)}),
    "seed": partial(whole, least=0),
    "device": check_device,
    "threads": check_threads,
    "logger": check_logger,
}
COMMAND = ("eval", "threads", "logger")


def check_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the keys checked that all experiments have, without notes.

    Raises:
        UserError: if one is missing, of the wrong type or out of range.
    """
    values = {key: value for key, value in (ADDED | dict(config)).items() if key not in NOTES}
    shared = {key: value for key, value in values.items() if key in SHARED}
    return {**values, **checked(shared, SHARED)}


def maker_of(config: Mapping[str, Any]) -> Callable[[], Experiment]:
    """What builds the experiment at its start, as often as it is called.

    Args:
        config: as :func:`check_keys` returns it.

    Raises:
        UserError: if a key is unknown, missing or of the wrong type; the experiment itself says
            what is out of range, when it is built.
    """
    cls = find("", config.get("_target_"), Experiment)
    apart = {"_target_", "device", *COMMAND}
    values = {key: value for key, value in config.items() if key not in apart}
    values = check_options("", cls, values, given=("device",))
    return partial(make, "", cls, {**values, "device": device_of(config["device"])})
