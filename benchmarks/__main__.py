"""`python -m benchmarks`, from the repository's root."""

from __future__ import annotations

import sys

import typer

from benchmarks import overhead_table, regret_table
from benchmarks.peers import command as peers
from outrider.cli.command import as_command, run_app

app = typer.Typer(
    name="benchmarks",
    help="Measure Outrider's policies, its own time in a round, and other projects beside it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("simulate")(as_command(regret_table.command))
app.command("overhead")(as_command(overhead_table.command))
app.command("peers")(as_command(peers.command))


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""
    return run_app(app, "python -m benchmarks", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
