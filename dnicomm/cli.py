"""``dnicomm COMMAND …``: finds the command, and shows what went wrong in a line or two.

A command's module is imported once it is chosen: torch and Hydra take seconds, help shall not.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import sys
import traceback
from collections.abc import Sequence

from dnicomm import __version__
from dnicomm.errors import UserError, nearest, printable

# command -> module, and what it does
COMMANDS = {
    "run": ("dnicomm.commands.run", "train and evaluate one configuration, or a sweep of them"),
    "bench": ("dnicomm.commands.bench.command", "the paper's experiments, and their tables"),
    "resume": ("dnicomm.commands.resume", "go on with a run that was stopped"),
    "eval": ("dnicomm.commands.evaluate", "test what a run has trained again"),
    "report": ("dnicomm.commands.report", "write the page of a run: curves, timeline, feedback"),
    "watch": ("dnicomm.commands.watch", "the same page in a browser, while the run goes on"),
    "compare": ("dnicomm.commands.compare", "runs side by side: curves, table, differences"),
    "list": ("dnicomm.commands.listing", "what there is to choose from"),
    "check": ("dnicomm.commands.check", "say what an agent, environment or the like gets wrong"),
}

# How often an idle thread of torch's looks for work before it sleeps. As it comes, GNU's library
# keeps its core busy for milliseconds, while those of dnicomm.core.workers have work.
SPINS = "20000"

LONGEST = 10_000  # characters of a message, of which a stranger's file may be a part

HELP = """\
usage: dnicomm COMMAND [ARGUMENTS]

{commands}

  dnicomm run                                   a first run: a digit passed on by four agents
  dnicomm run env.num_agents=6 feedback=exact   other values (dnicomm run --help shows all keys)
  dnicomm run agent=recurrent clock=bursty      other options (dnicomm list)
  dnicomm run -m seed=0,1,2 feedback=synthetic,none       a sweep: one run a combination
  dnicomm run agent=custom agent._target_=my_module.MyAgent
  dnicomm bench mnist method=cdni               one of the paper's experiments (dnicomm bench)

  dnicomm COMMAND --help    dnicomm --version
  eval "$(dnicomm -sc install=bash)"            completion with the Tab key
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code.

    2: something to put right, said in one or two lines. 130: stopped by the user. Other
    exceptions are mistakes of a program and keep their traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # λ where the locale has none is a question mark
        sys.stdout.reconfigure(errors="replace")
    if "OMP_WAIT_POLICY" not in os.environ:  # read when torch is imported
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        return _dispatch(arguments)
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1" and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        print(f"dnicomm: {printable(str(error))[:LONGEST]}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\ndnicomm: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] in (["-sc"], ["--shell-completion"]):
        return _complete(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        rows = "\n".join(f"  {name:<8}{line}" for name, (_, line) in COMMANDS.items())
        print(HELP.format(commands=rows), end="")
        return 0
    command, *rest = arguments
    if command == "--version":
        print(f"dnicomm {__version__}")
        return 0
    if command not in COMMANDS:
        if "=" in command or command.startswith("-"):
            words = " ".join(arguments)
            raise UserError(f"name a command first, for example: dnicomm run {words}")
        raise UserError(f"{command}: there is no such command.{nearest(command, COMMANDS)}")
    return _call(command, rest)


def _call(command: str, arguments: list[str]) -> int:
    code: int = importlib.import_module(COMMANDS[command][0]).main(arguments)
    return code


def _complete(arguments: list[str]) -> int:
    """Answer the shell: the first word is ours, what follows a Hydra command is Hydra's."""
    if not any(word.startswith("query=") for word in arguments):  # install= and uninstall=
        return _call("run", arguments)
    line = os.environ.get("COMP_LINE", "")
    words = re.fullmatch(r"(\s*\S+\s+)(\S+)(\s.*)", line)
    if words is None:
        print(" ".join(COMMANDS))
    elif words[2] == "run":
        return _complete_hydra(words[1] + words[3].lstrip(), ["run", *arguments])
    elif words[2] == "bench":
        from dnicomm.commands.bench.catalogue import experiments
        from dnicomm.commands.bench.command import complete

        typed = words[3].split() + [""] * words[3].endswith((" ", "\t"))
        print(" ".join(complete(typed)))
        if len(typed) > 1 and typed[0] in experiments():
            rest = words[3].lstrip().partition(" ")[2]
            return _complete_hydra(words[1] + rest.lstrip(), ["bench", typed[0], *arguments])
    elif words[2] == "list":
        from dnicomm.commands.options import GROUPS

        print(" ".join(GROUPS))
    return 0


def _complete_hydra(line: str, arguments: list[str]) -> int:
    """Let Hydra answer, as if the line began with what it reads."""
    before = os.environ["COMP_LINE"]
    os.environ["COMP_LINE"] = line
    try:
        return _call(arguments[0], arguments[1:])
    finally:
        os.environ["COMP_LINE"] = before


if __name__ == "__main__":
    sys.exit(main())
