"""What is said of a learner's file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from outrider.check.learner.chapter import Task
from outrider.check.learner.mistakes import MISTAKES

State = Literal["passed", "wrong", "missing"]


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers that show a mistake: a row for what the file does, one for what is right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake.

    Attributes:
        mistake: its key in MISTAKES.
        detail: what is more exactly known.
        example: the smallest example, in lines.
        table: its numbers.
        lines: (line, function, text) of the file, where an error comes from.
    """

    mistake: str
    detail: str = ""
    example: tuple[str, ...] = ()
    table: Table | None = None
    lines: tuple[tuple[int, str, str], ...] = ()

    @property
    def name(self) -> str:
        return MISTAKES[self.mistake].name

    @property
    def what(self) -> str:
        return MISTAKES[self.mistake].what

    @property
    def remedy(self) -> str:
        return MISTAKES[self.mistake].remedy


@dataclass
class Verdict:
    """On one task.

    Attributes:
        findings: what is wrong, most telling first.
        notes: what is worth knowing and no mistake.
        trials: what was tried, in words with numbers.
        tests: how many counts were tested for being too far from their chance.
    """

    task: Task
    state: State = "passed"
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trials: list[str] = field(default_factory=list)
    tests: int = 0

    def add(self, finding: Finding) -> None:
        """Add a finding, unless the same mistake was found before."""
        if all(finding.name != known.name for known in self.findings):
            self.findings.append(finding)
        self.state = "wrong"


@dataclass(frozen=True, slots=True)
class Report:
    """On a file.

    Attributes:
        framework: what its arrays were.
        verdicts: of every task that was asked for.
        false_alarms: in at most this share of runs something is called wrong in a right file.
        printed: bytes that the file wrote to its outputs; they are not shown.
    """

    path: Path
    framework: str
    verdicts: list[Verdict]
    false_alarms: float
    printed: int

    @property
    def passed(self) -> bool:
        """Whether every task that the file defines passes."""
        return all(verdict.state != "wrong" for verdict in self.verdicts)

    @property
    def found(self) -> list[Verdict]:
        """Of the tasks that the file defines."""
        return [verdict for verdict in self.verdicts if verdict.state != "missing"]
