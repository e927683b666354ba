"""``dnicomm eval``: the parameters of a run are tested again, without learning, and shown.

Nothing is written but the video that is asked for, and with ``--keep`` the metrics of communication
beside the run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from dnicomm.commands.arguments import Parser, at_least_one
from dnicomm.commands.provenance import add_trust, confine
from dnicomm.commands.resume import last_checkpoint, open_run
from dnicomm.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """Test the run that the arguments name; the exit code.

    Raises:
        UserError: if it is no run folder, has no checkpoint, or its configuration no longer fits.
    """
    parser = Parser("dnicomm eval", description="Test what a run has trained.")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    add_trust(parser)
    parser.add_argument(
        "words", metavar="KEY=VALUE", nargs="*",
        help="render=true: show a world of the first episode, as text; video=FILE.gif: as a moving "
        "picture; world=N: which one (0)",
    )  # fmt: skip
    parser.add_argument("--episodes", type=at_least_one, help="to play; default: as configured")
    parser.add_argument(
        "--num-worlds", type=at_least_one, help="side by side in each; default: as configured"
    )
    parser.add_argument(
        "--metrics", metavar="LIST", type=_names,
        help="of communication: all (default; none where a world is shown), none, or some of "
        "use,signalling,structure,listening,ablation",
    )  # fmt: skip
    parser.add_argument(
        "--channels", metavar="LIST", type=_names,
        help="whose communication to measure, as 'a->b,b->c'; default: the first eight",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="store_true",
        help="write the metrics of communication into the run's folder, for its report",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    given = parser.parse_intermixed_args(arguments)
    run = open_run(given.run)

    from dnicomm.commands.render import onlooker, told, wanted
    from dnicomm.commands.table import screen
    from dnicomm.commands.work import Wanted, kind_of
    from dnicomm.sim.closing import closing

    render = wanted(given.words)
    if "bench" in run.config and render is not None:
        raise UserError(
            f"{run.path} is a run of dnicomm bench {run.config['bench']}: there is no world to show"
        )
    if given.json and render is not None and render.video is None:
        raise UserError("--json: render=true prints text; say where a picture goes: video=FILE.gif")
    if "bench" in run.config and (given.episodes or given.num_worlds):
        raise UserError(
            f"{run.path} is a run of dnicomm bench {run.config['bench']}, which takes neither "
            "--episodes nor --num-worlds"
        )
    if "bench" in run.config and (given.metrics or given.channels):
        raise UserError(
            f"{run.path} is a run of dnicomm bench {run.config['bench']}, which takes neither "
            "--metrics nor --channels"
        )
    if given.keep and ("bench" in run.config or given.metrics == ["none"]):
        raise UserError("--keep: there are no metrics of communication to keep")
    config = dict(run.config)
    if given.num_worlds is not None and isinstance(config.get("eval"), dict):
        config["eval"] = {**config["eval"], "num_worlds": given.num_worlds}
    checkpoint = last_checkpoint(run)
    if checkpoint is None:
        raise UserError(f"{run.path} has no checkpoint yet; go on with: dnicomm resume {run.path}")
    kind = kind_of(config)
    names = given.metrics or (["all"] if render is None or given.keep else ["none"])
    metrics = {"all": None, "none": []}.get(",".join(names), names)
    looks_on, film = onlooker(render)
    world = 0 if render is None else render.world
    with confine(run, given.trust), closing(kind(config)) as work:
        found = work.test(
            checkpoint, Wanted(given.episodes, metrics, given.channels, world, looks_on)
        )
    if film is not None and render is not None and render.video is not None:
        film.write(render.video)
        print(told(film, render.video), file=sys.stderr if given.json else sys.stdout)
    if given.keep:
        from dnicomm.commands.pages import leave_page

        run.write_communication({"time": found["time"], **found["communication"]})
        leave_page(run.path)
    if given.json:
        print(json.dumps(found, allow_nan=False, indent=2))
    else:
        kind.show_test(screen(), found)
    return 0


def _names(text: str) -> list[str]:
    """A list separated by commas."""
    return [name.strip() for name in text.split(",")]
