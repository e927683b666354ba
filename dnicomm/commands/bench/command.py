"""``dnicomm bench NAME``: one of the paper's experiments, or a sweep, composed by Hydra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

from dnicomm.commands.bench.catalogue import experiments, options, tree
from dnicomm.errors import UserError, nearest

# beside the experiments' names: module, and what it does
WORDS = {
    "all": ("dnicomm.commands.bench.everything", "every experiment with every method, checked"),
    "speed": ("dnicomm.commands.bench.speed", "times beside backpropagation, loops and floors"),
    "table": ("dnicomm.commands.bench.table", "finished runs as the paper's tables"),
}
BUDGETS = {  # each experiment's own lines say more
    "smoke": "seconds: does it run?",
    "cpu": "minutes on a core or two; the default",
    "paper": "the published sizes and schedules, for a GPU",
}
HELP = """\
usage: dnicomm bench NAME [GROUP=OPTION ...] [KEY=VALUE ...]

{sections}

  dnicomm bench mnist budget=smoke              seconds: does it run?
  dnicomm bench mnist method=dni layers=4       other values (dnicomm bench mnist --help)
  dnicomm bench mnist -m method=backprop,cdni seed=0,1,2      one run a combination
  dnicomm bench table runs                      what they reached, beside the published values
  dnicomm list bench=mnist                      what the keys mean
"""


def main(arguments: Sequence[str]) -> int:
    """Run the experiment that the arguments name; the exit code.

    Raises:
        UserError: if something in them is wrong.
    """
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", ())
    if name in ("-h", "--help", "help"):
        print(HELP.format(sections=_rows(_sections())), end="")
        return 0
    if name in WORDS:
        code: int = import_module(WORDS[name][0]).main(rest)
        return code
    known = experiments()
    if name not in known:
        if "=" in name or name.startswith("-"):
            words = " ".join(arguments)
            raise UserError(f"name an experiment first: dnicomm bench {next(iter(known))} {words}")
        raise UserError(f"{name}: there is no such experiment.{nearest(name, [*known, *WORDS])}")
    from dnicomm.commands.launching import launch

    composed = tree(name)
    if {"-h", "--help"} & set(rest):  # Hydra adds the configuration
        groups = {f"{g}=": {o.name: o.line for o in options(name, g)} for g in composed.groups}
        print(f"usage: dnicomm bench {name} [GROUP=OPTION ...] [KEY=VALUE ...]\n")
        print(f"{known[name]}\n\n{_rows(groups)}\n", flush=True)
    return launch(composed, rest)


def _sections() -> dict[str, Mapping[str, str]]:
    """The names there are, and the options of each group, those of a family together."""
    names = experiments()
    sections: dict[str, Mapping[str, str]] = {}
    sections["NAME"] = {**names, **{word: line for word, (_, line) in WORDS.items()}}
    sections["budget="] = BUDGETS
    of: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for name in names:
        for group in tree(name).groups:
            if group != "budget":
                lines = tuple((option.name, option.line) for option in options(name, group))
                of.setdefault((group, lines), []).append(name)
    for (group, lines), users in of.items():
        title = f"{group}=" if users == list(names) else f"{group}=  ({', '.join(users)})"
        sections[title] = dict(lines)
    return sections


def _rows(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Titles, and a line each below them."""
    width = max(len(name) for section in sections.values() for name in section)
    blocks = [
        [title, *(f"  {name:<{width}}  {line}".rstrip() for name, line in rows.items())]
        for title, rows in sections.items()
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def complete(words: Sequence[str]) -> list[str]:
    """What the word being typed may become, besides what Hydra knows; it doesn't know families.

    Args:
        words: after ``dnicomm bench``, the last of which is being typed.
    """
    typed = words[-1] if words else ""
    if len(words) < 2:
        return [*experiments(), *WORDS]
    if words[0] not in experiments():
        return []
    known: list[str] = []
    for group in tree(words[0]).groups:
        chosen = [f"{group}={option.name}" for option in options(words[0], group)]
        known += chosen if typed.startswith(f"{group}=") else [f"{group}="]
    return [word for word in known if word.startswith(typed)]
