"""`python -m benchmarks`, from the repository's root."""

from __future__ import annotations

import sys

import typer

from benchmarks.agent.command import command as agent
from benchmarks.drafts.command import command as drafts
from benchmarks.overhead.command import command as overhead
from benchmarks.peers.command import command as peers
from benchmarks.schemas.command import command as schemas
from benchmarks.simulation.command import command as simulate
from outrider.cli.command import as_command, run_app

app = typer.Typer(
    name="benchmarks",
    help="Measure Outrider's lookahead policies, its own time in a round, its memory, and other projects beside it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("drafts")(as_command(drafts))
app.command("simulate")(as_command(simulate))
app.command("overhead")(as_command(overhead))
app.command("peers")(as_command(peers))
app.command("agent")(as_command(agent))
app.command("schemas")(as_command(schemas))


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""
    return run_app(app, "python -m benchmarks", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
