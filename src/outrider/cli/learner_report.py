"""What `outrider check FILE.py` shows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from outrider.check.learner.chapter import TITLES
from outrider.check.learner.verdicts import Finding, Report, Verdict
from outrider.cli.terminal import SafeConsole

WORDS = {"passed": "passed", "wrong": "wrong", "missing": "not defined"}
COLOURS = {"passed": "green", "wrong": "red", "missing": "dim"}
MARKS = {state: f"[{COLOURS[state]}]{word}[/{COLOURS[state]}]" for state, word in WORDS.items()}
INDENT = 2


def as_json(report: Report) -> dict[str, Any]:
    """For programs."""
    return {
        "file": str(report.path),
        "framework": report.framework,
        "passed": report.passed,
        "false_alarms": report.false_alarms,
        "tasks": [
            {
                "task": verdict.task.number,
                "name": verdict.task.name,
                "state": verdict.state,
                "trials": verdict.trials,
                "tests": verdict.tests,
                "notes": verdict.notes,
                "mistakes": [
                    {"name": finding.name, "what": finding.what, "remedy": finding.remedy, **asdict(finding)}
                    for finding in verdict.findings
                ],
            }
            for verdict in report.verdicts
        ],
    }


def show(report: Report) -> None:
    """A line for each task, each mistake with its smallest example, and how sure that is."""
    console = SafeConsole(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(f"[bold]{escape(report.path.name)}[/bold], tried with {TITLES[report.framework]}\n")
    width = max(len(verdict.task.name) for verdict in report.verdicts)
    for verdict in report.verdicts:
        names = ", ".join(finding.name for finding in verdict.findings)
        number, name = _titles(verdict)
        mark = MARKS[verdict.state] + " " * (len("not defined") - len(WORDS[verdict.state]))
        said = escape(names or ", ".join(verdict.trials))
        console.print(f"{number:6}  {escape(name):{width}}  {mark}  {said}".rstrip())
    for verdict in report.verdicts:
        for finding in verdict.findings:
            _show_finding(console, verdict, finding)
    _show_notes(console, report)
    console.print(f"\n{_sureness(report)}")


def _titles(verdict: Verdict) -> tuple[str, str]:
    """The number and the name of a task; what is said of the whole file has neither."""
    return (f"task {verdict.task.number}", verdict.task.name) if verdict.task.number else ("", verdict.task.name)


def _show_finding(console: Console, verdict: Verdict, finding: Finding) -> None:
    title, name = _titles(verdict)
    console.print(
        f"\n[red]{title} {escape(name)}[/red]: [bold]{escape(finding.name)}[/bold]".replace("[red] ", "[red]")
    )
    detail = f" ({finding.detail})" if finding.detail else ""
    _indented(console, escape(finding.what + detail))
    for line in finding.example:
        _indented(console, f"[cyan]{escape(line)}[/cyan]")
    if finding.table is not None:
        for line in _aligned([finding.table.headings, *finding.table.rows]):
            _indented(console, "  " + line)
    for line_number, function, text in finding.lines:
        place = f"line {line_number}" + (f", in {function}" if function and function != "<module>" else "")
        _indented(console, f"[dim]{escape(place)}:[/dim] {escape(text)}")
    _indented(console, f"[green]remedy:[/green] {escape(finding.remedy)}")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table, the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [f"{row[0]:{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _indented(console: Console, text: str) -> None:
    console.print(Padding(text, (0, 0, 0, INDENT)) if sys.stdout.isatty() else " " * INDENT + text)


def _show_notes(console: Console, report: Report) -> None:
    notes = [(verdict.task.number, note) for verdict in report.verdicts for note in verdict.notes]
    if report.printed:
        notes.append((0, f"what the file prints ({report.printed:,} bytes) is not shown"))
    if notes:
        console.print()
    for number, note in notes:
        console.print(f"[yellow]note[/yellow]{f' on task {number}' if number else ''}: {escape(note)}")


def _sureness(report: Report) -> str:
    tests = sum(verdict.tests for verdict in report.verdicts)
    trials = "; ".join(
        f"task {verdict.task.number}: {', '.join(verdict.trials)}" for verdict in report.verdicts if verdict.trials
    )
    mark = "[green]passed[/green]" if report.passed else "[red]wrong[/red]"
    if not tests:
        return f"{mark}" + (f" ({trials})" if trials else "")
    rate = f"in less than 1 of {1 / report.false_alarms:,.0f} runs"
    return f"{mark}: {trials}. {tests:,} tests; a right file is called wrong {rate}."
