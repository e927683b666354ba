"""``dnicomm list``: what there is to choose from. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence

from dnicomm.commands.arguments import Parser
from dnicomm.commands.bench.catalogue import experiments, explained
from dnicomm.commands.options import GROUPS, manual, options
from dnicomm.errors import UserError, nearest

APART = ("keys", "bench")  # beside groups


def main(arguments: Sequence[str]) -> int:
    """Print the options of some groups, or of all; the exit code.

    Raises:
        UserError: if there is no such group.
    """
    parser = Parser("dnicomm list", description="What there is to choose from, as GROUP=OPTION.")
    parser.add_argument(
        "what", metavar="WHAT", nargs="*",
        help=f"a group ({', '.join(GROUPS)}), an option with its keys (clock=poisson), or keys: "
        "those outside groups; bench: the paper's experiments, bench=NAME: the keys of one",
    )  # fmt: skip
    words = parser.parse_intermixed_args(arguments).what
    for word in words:
        if "=" in word or word in APART:
            print(_manual(word))
    asked = [_group(word) for word in words if "=" not in word and word not in APART]
    if words and not asked:
        return 0
    shown = {group: options(group) for group in asked or GROUPS}
    width = max((len(o.name) for found in shown.values() for o in found), default=0)
    for group, found in shown.items():
        if not found and not asked:
            continue
        print(f"{group}=" if found else f"{group}: none")
        for option in found:
            print(f"  {option.name:<{width}}  {option.line}")
    return 0


def _manual(word: str) -> str:
    """The commented file of an option, or of the keys outside groups."""
    if word == "keys":
        return manual("config").partition("\nhydra:")[0]
    group, _, name = word.partition("=")
    if group == "bench":
        lines = experiments()
        rows = "\n".join(f"  {known:<12}  {line}" for known, line in lines.items())
        return explained(name) if "=" in word else f"bench\n{rows}"
    found = {option.name: option for option in options(_group(group))}
    if name not in found:
        raise UserError(f"{word}: there is no such {group}.{nearest(name, found)}")
    target = found[name].target
    return manual(group, name) if target is None else f"_target_: {target}\n"


def _group(word: str) -> str:
    """The group, also by its plural."""
    plurals = {"topologies": "topology", "utilities": "utility"}
    name = plurals.get(word, word if word in GROUPS else word.removesuffix("s"))
    if name not in GROUPS:
        raise UserError(f"{word}: there is no such group.{nearest(word, GROUPS)}")
    return name
