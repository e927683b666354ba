"""Options of environments that are whole numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dnicomm.errors import UserError


def check_whole(env: object, least: Mapping[str, int], or_null: Collection[str] = ()) -> None:
    """Check options of an environment, as its ``__post_init__`` does.

    Args:
        least: what each of them is at least.
        or_null: those that may be None.

    Raises:
        UserError: if one is no whole number, or less; names its key.
    """
    for key, bound in least.items():
        value = getattr(env, key)
        if value is None and key in or_null:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < bound:
            raise UserError(f"env.{key}={value}: must be a whole number of at least {bound}")
