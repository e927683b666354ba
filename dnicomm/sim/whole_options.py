"""Options that are whole numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dnicomm.errors import UserError


def check_whole(
    options: object, least: Mapping[str, int], or_null: Collection[str] = (), prefix: str = ""
) -> None:
    """Check attributes of a configuration object, as its ``__post_init__`` does.

    Args:
        options: whose attributes they are.
        least: what each of them is at least.
        or_null: those that may be None.
        prefix: of their keys, for messages.

    Raises:
        UserError: if one is no whole number, or less; names its key.
    """
    for key, bound in least.items():
        value = getattr(options, key)
        if value is None and key in or_null:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < bound:
            raise UserError(f"{prefix}{key}={value}: must be a whole number of at least {bound}")
