"""``dnicomm eval``: the agents of a run are tested again, without learning. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnicomm.commands.arguments import Parser, at_least_one
from dnicomm.commands.resume import last_checkpoint, open_run
from dnicomm.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """Test the run that the arguments name; the exit code.

    Raises:
        UserError: if it is no run folder, has no checkpoint, or its configuration no longer fits.
    """
    parser = Parser("dnicomm eval", description="Test a run's agents. Writes nothing.")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    parser.add_argument("--episodes", type=at_least_one, help="to play; default: as configured")
    parser.add_argument(
        "--num-worlds", type=at_least_one, help="side by side in each; default: as configured"
    )
    given = parser.parse_args(arguments)
    run = open_run(given.run)

    from dnicomm.commands.build import build
    from dnicomm.commands.keys import check_keys
    from dnicomm.commands.table import metrics_table, screen
    from dnicomm.commands.training import threads

    config = check_keys(run.config)
    if given.num_worlds is not None:
        config["eval"]["num_worlds"] = given.num_worlds
    checkpoint = last_checkpoint(run)
    if checkpoint is None:
        raise UserError(f"{run.path} has no checkpoint yet; go on with: dnicomm resume {run.path}")
    simulation = build(config)
    simulation.restore(checkpoint.tensors, checkpoint.facts)
    with threads(config["threads"]):
        record = simulation.evaluate(given.episodes)
    console = screen()
    episodes = given.episodes or config["eval"]["episodes"]
    worlds = simulation.examiner.world.num_worlds
    console.print(
        f"{simulation.env.name}, trained to world time {checkpoint.time}; "
        f"{episodes} episode{'s' * (episodes > 1)} in {worlds} world{'s' * (worlds > 1)}",
        soft_wrap=True,
    )  # fmt: skip
    console.print(metrics_table(record["metrics"]))
    return 0
