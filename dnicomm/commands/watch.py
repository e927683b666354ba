"""``dnicomm watch``: the report of a run, in a browser, updating while the run goes on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dnicomm.commands.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """Serve the report of the run that the arguments name until Ctrl-C; the exit code.

    Raises:
        UserError: if there is nothing of a run there, or the port is taken.
    """
    parser = Parser(
        "dnicomm watch",
        description="Serve the report of a run to this machine, updating while the run goes on.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    parser.add_argument("--port", type=_port, default=0, help="to listen at; default: a free one")
    given = parser.parse_args(arguments)

    from dnicomm.report.serve import Server

    with Server(given.run, given.port) as server:
        print(f"{server.url}  (Ctrl-C stops)", flush=True)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print()
    return 0


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 0 to 65535")
    return int(text)
