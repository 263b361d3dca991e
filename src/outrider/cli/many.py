"""`outrider generate --input`: many prompts from a file, several at a time, into a file of results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich import progress as bars

from outrider.cli import options
from outrider.cli.options import option
from outrider.cli.terminal import messages, working
from outrider.drafters.tree_shapes import StaticTree
from outrider.engine.engine import Observer
from outrider.errors import SettingError
from outrider.jobs import Common, Defaults, Progress, ResultFile, Results, ResultStream, parse_prompts, prepare, run
from outrider.lookahead import AdaptiveSpeculator

MANY = "Many prompts"
DEFAULT_ROWS = 8
SOME_FAILED = 1

InputOption = Annotated[
    Path | None,
    option(
        MANY,
        "--input",
        "FILE",
        'Decode many prompts: a JSON object a line with "prompt", "messages", "tokens" or "turns"; it may have an '
        '"id", and its own "max_tokens", "temperature", "seed" and so on.',
    ),
]
OutputOption = Annotated[
    Path | None,
    option(
        MANY,
        "--output",
        "FILE",
        "A JSON line per prompt, written when it is finished. A run that was stopped goes on where it was if the same "
        "command is given again. - is standard output.",
    ),
]
RowsOption = Annotated[
    int | None, option(MANY, "--max-rows", "N", f"How many prompts to decode at once. Default: {DEFAULT_ROWS}.")
]
OverwriteOption = Annotated[bool, option(MANY, "--overwrite", None, "Forget the results that are in --output.")]


@dataclass(frozen=True, slots=True)
class Files:
    """Where prompts come from and results go to."""

    input: Path
    output: Path
    max_rows: int
    overwrite: bool

    @property
    def to_standard_output(self) -> bool:
        return str(self.output) == options.STANDARD_INPUT


@dataclass(frozen=True, slots=True)
class Opening:
    """What is to be opened once the prompts are known to be sound."""

    model: str
    draft_model: str | None
    kind: options.DrafterKind
    shape: StaticTree | None
    runtime: options.Runtime


def files(input: Path | None, output: Path | None, max_rows: int | None, overwrite: bool) -> Files | None:
    """What the flags say together; None where there is one prompt only.

    Raises:
        SettingError: they contradict each other, or one of them would have no effect.
    """
    if input is None:
        given = {"--output": output is not None, "--max-rows": max_rows is not None, "--overwrite": overwrite}
        lonely = [flag for flag, is_given in given.items() if is_given]
        if lonely:
            raise SettingError(f"{lonely[0]} is for many prompts: give --input FILE as well, or leave it out")
        return None
    if output is None:
        raise SettingError("--input needs a place for the results: give --output FILE, or --output - to print them")
    if max_rows is not None and max_rows < 1:
        raise SettingError(f"--max-rows is {max_rows}: it must be at least 1")
    found = Files(input, output, DEFAULT_ROWS if max_rows is None else max_rows, overwrite)
    if found.to_standard_output and overwrite:
        raise SettingError("--overwrite is for a file and --output is -: leave one of them out")
    if not found.to_standard_output and output.exists() and input.exists() and output.samefile(input):
        raise SettingError(f"--input and --output are the same file, {input}: give another --output")
    return found


def refuse_beside_input(given: dict[str, bool]) -> None:
    """Raises SettingError where a flag that is given is for a single prompt.

    Args:
        given: by flag, whether it is.
    """
    for flag, is_given in given.items():
        if is_given:
            raise SettingError(f"{flag} is for a single prompt and --input is given: leave one of them out")


def decode(
    where: Files,
    defaults: Defaults,
    common: Common,
    opening: Opening,
    lookahead: int | AdaptiveSpeculator | None,
    observer: Observer | None = None,
) -> int:
    """Decode the prompts of a file, and say what came of it; returns the exit status.

    Raises:
        InputError: a line of the file, or what is in the file of results, cannot be used.
    """
    name = "standard input" if str(where.input) == options.STANDARD_INPUT else str(where.input)
    prompts = parse_prompts(options.read_text(where.input), name, defaults)
    seen = [Progress(len(prompts), 0)]
    try:
        with _results(where) as results:
            target = options.open_model(opening.model, opening.runtime)
            drafter = options.open_drafter(opening.kind, opening.draft_model, target, opening.runtime, opening.shape)
            with working("reading the prompts"):
                jobs = prepare(prompts, target, common)
            if common.seed is not None and any(job.seed is not None for job in jobs):
                options.say_whether_reproducible(common.rule, lookahead)
            with _bar() as show:

                def report(progress: Progress) -> None:
                    seen[:] = [progress]
                    show(progress)

                done = run(
                    jobs,
                    results,
                    target,
                    drafter,
                    lookahead=lookahead,
                    rule=common.rule,
                    max_rows=where.max_rows,
                    observer=observer,
                    report=report,
                )
    except KeyboardInterrupt:
        messages().print(stopped(seen[0], where), style="dim")
        raise
    messages().print(summary(done), style="dim")
    return SOME_FAILED if done.failed else 0


def summary(progress: Progress) -> str:
    """One line about a run."""
    counts = [f"{progress.total} prompts"]
    if progress.before:
        counts.append(f"{'all' if progress.before == progress.total else progress.before} of them there before")
    if progress.failed:
        counts.append(f'{progress.failed} with an "error" instead of a text')
    parts = [", ".join(counts)]
    if progress.emitted:
        parts.append(f"{progress.emitted} tokens in {progress.seconds:.1f} s, {progress.tokens_per_second:.1f}/s")
        parts.append(f"{progress.emitted / progress.rounds:.2f} tokens per round and text")
    if progress.drafted:
        parts[-1] += f", {progress.accepted / progress.drafted:.0%} of {progress.drafted} drafted accepted"
    shares = (
        ("drafting", progress.seconds_drafting),
        ("verification", progress.seconds_verification),
        ("elsewhere", progress.seconds_elsewhere),
    )
    total = sum(seconds for _, seconds in shares)
    if total:
        parts.append("time: " + ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in shares if seconds > 0))
    return " · ".join(parts)


def stopped(progress: Progress, where: Files) -> str:
    """One line about a run that was interrupted, and how to go on."""
    count = f"stopped · {progress.done} of {progress.total} prompts"
    if where.to_standard_output:
        return f"{count} were printed; with --output FILE a run can go on where it stopped"
    command = "the same command without --overwrite" if where.overwrite else "the same command"
    return f"{count} are in {where.output}; {command} goes on from there"


def speed(progress: Progress) -> str:
    """What stands beside the bar."""
    if not progress.emitted:
        return ""
    text = f"{progress.tokens_per_second:.1f} tokens/s"
    left = progress.seconds_left
    if left is None:
        return text
    minutes, seconds = divmod(round(left), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{text}, {hours}:{minutes:02}:{seconds:02} left" if hours else f"{text}, {minutes}:{seconds:02} left"


def _results(where: Files) -> AbstractContextManager[Results]:
    if where.to_standard_output:
        return nullcontext(ResultStream(sys.stdout))
    return ResultFile(where.output, overwrite=where.overwrite)


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """A progress bar, where somebody is looking. Yields a function that moves it."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    columns = (
        bars.TextColumn("decoding"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[speed]}"),
    )
    with bars.Progress(*columns, console=messages(), transient=True) as bar:
        task = bar.add_task("decoding", total=None, speed="")
        yield lambda now: bar.update(task, completed=now.done, total=now.total, speed=speed(now))
