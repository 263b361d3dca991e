"""`outrider check my_solution.py`: a learner's own speculative decoding, task by task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from outrider.check.learner.chapter import NUMBERS, Framework
from outrider.check.learner.check import check_solution
from outrider.cli.learner_report import as_json, show
from outrider.cli.options.group import option
from outrider.cli.render import print_json
from outrider.cli.terminal import counting_bar
from outrider.errors import SettingError

SOLUTION = "Your own file"
WRONG = 1


@dataclass(frozen=True, slots=True)
class SolutionOptions:
    """A file of the reader's own, in place of models."""

    solution: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE.py",
            help="A file of yours with verify_speculation, SpeculativeDecoder, AdaptiveSpeculator or "
            "batched_speculative_decode, checked instead of models.",
        ),
    ] = None
    task: Annotated[
        list[int] | None, option("--task", "N", "Only this task of the course, 1 to 4. Repeatable.", SOLUTION)
    ] = None
    framework: Annotated[
        Framework | None,
        option(
            "--framework",
            "NAME",
            "Whose arrays your file takes: numpy, torch, mlx. Default: what it imports.",
            SOLUTION,
        ),
    ] = None

    def check(self) -> None:
        """Raises SettingError where a value is out of its range, or has no effect."""
        for number in self.task or ():
            if number not in NUMBERS:
                raise SettingError(f"--task is {number}: it must be from 1 to {NUMBERS[-1]}")
        if self.solution is None and (self.task or self.framework):
            raise SettingError("--task and --framework are for a file of yours: name it, outrider check FILE.py")


def check_file(options: SolutionOptions, json: bool) -> int:
    """Check the file; returns the exit status."""
    assert options.solution is not None
    with counting_bar("checking") as progress:
        report = check_solution(
            options.solution,
            tasks=sorted(set(options.task or ())),
            framework=options.framework,
            progress=progress,
        )
    if json:
        print_json(as_json(report))
    else:
        show(report)
    return 0 if report.passed else WRONG
