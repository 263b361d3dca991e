"""`outrider generate --input`: many prompts from a file, several at a time, into a file of results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from rich import progress as bars

from outrider.cli.options.drafting import say_whether_reproducible
from outrider.cli.options.files import STANDARD_INPUT, read_text
from outrider.cli.options.jobs import JobOptions
from outrider.cli.terminal import messages, working
from outrider.drafters.base import Drafter
from outrider.engine.record import Observer
from outrider.errors import OutriderError
from outrider.jobs import (
    Common,
    Defaults,
    Jobs,
    Progress,
    PromptFile,
    ResultFile,
    Results,
    ResultStream,
    parse_prompts,
    run,
)
from outrider.jobs.decoding import EngineSettings
from outrider.jobs.ray_pool import RayPool
from outrider.jobs.replica import Replica
from outrider.jobs.spread import Pool, run_on_workers
from outrider.lookahead import AdaptiveSpeculator
from outrider.prompts.files import Prompts
from outrider.runtimes.base import Model

SOME_FAILED = 1
# Jobs, where results go, what to call before models are opened, and whom to tell how far it is.
Run = Callable[[Jobs, Results, Callable[[], None], Callable[[Progress], None]], Progress]


def decode(
    where: JobOptions,
    defaults: Defaults,
    common: Common,
    lookahead: int | AdaptiveSpeculator | None,
    run: Run,
) -> int:
    """Decode the prompts of a file, and say what came of it; returns the exit status.

    Args:
        run: decodes what is left. It opens models when the first prompts are known to be sound.

    Raises:
        InputError: a line of the file, or what is in the file of results, cannot be used.
    """
    jobs = Jobs(_prompts(where, defaults), common)
    draws = [job.seed is not None for job in jobs.beginning()]
    seen = [Progress(len(jobs), 0)]
    try:
        with _results(where) as results:

            def opening() -> None:
                if common.seed is not None and any(draws):
                    say_whether_reproducible(common.rule, lookahead)

            with _bar() as show:

                def report(progress: Progress) -> None:
                    seen[:] = [progress]
                    show(progress)

                done = run(jobs, results, opening, report)
    except (KeyboardInterrupt, OutriderError) as error:
        if isinstance(error, KeyboardInterrupt) or seen[0].finished:
            messages().print(stopped(seen[0], where), style="dim")
        raise
    messages().print(summary(done), style="dim")
    return SOME_FAILED if done.failed else 0


def in_one_process(
    where: JobOptions,
    settings: EngineSettings,
    open_models: Callable[[], tuple[Model, Drafter | None]],
    observer: Observer | None,
) -> Run:
    """A run with one engine."""

    def go(jobs: Jobs, results: Results, opening: Callable[[], None], report: Callable[[Progress], None]) -> Progress:
        def opened() -> tuple[Model, Drafter | None]:
            opening()
            return open_models()

        return run(
            jobs,
            results,
            opened,
            lookahead=settings.lookahead,
            rule=settings.rule,
            max_rows=where.rows,
            observer=observer,
            report=report,
        )

    return go


def on_workers(
    where: JobOptions,
    settings: EngineSettings,
    open_models: Callable[[int], tuple[Model, Drafter | None]],
    threads: int | None,
    gpus: bool,
) -> Run:
    """A run over processes of Ray.

    Args:
        open_models: target and drafter of a worker, given its threads; it is pickled.
        threads: of each worker; None divides the cores.
        gpus: whether each worker takes a GPU where there are some.
    """
    workers, rows = where.workers, where.rows
    assert workers is not None

    def go(jobs: Jobs, results: Results, opening: Callable[[], None], report: Callable[[Progress], None]) -> Progress:
        common = jobs.common

        def make(threads: int) -> Replica:
            return Replica(lambda: open_models(threads), common, settings, rows)

        with ExitStack() as stack:

            def open_pool() -> Pool:
                opening()
                with working(f"starting {workers} workers"):
                    return stack.enter_context(RayPool(make, workers, where.address, threads, gpus))

            return run_on_workers(jobs, results, open_pool, workers=workers, rows=rows, report=report)

    return go


def _prompts(where: JobOptions, defaults: Defaults) -> Prompts:
    """The prompts of a file, line by line; what can be read only once is read whole."""
    assert where.input is not None
    if where.input.is_file():
        return PromptFile(where.input, defaults)
    name = "standard input" if str(where.input) == STANDARD_INPUT else str(where.input)
    return parse_prompts(read_text(where.input), name, defaults)


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


def stopped(progress: Progress, where: JobOptions) -> str:
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


def _results(where: JobOptions) -> AbstractContextManager[Results]:
    if where.to_standard_output:
        return nullcontext(ResultStream(sys.stdout))
    assert where.output is not None
    return ResultFile(where.output, overwrite=where.overwrite)


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """A progress bar, where somebody is looking. Yields a function that moves it; before that it is not shown, since
    opening a model has a spinner of its own."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    columns = (
        bars.TextColumn("decoding"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[speed]}"),
    )
    bar = bars.Progress(*columns, console=messages(), transient=True)
    task = bar.add_task("decoding", total=None, speed="")

    def show(now: Progress) -> None:
        bar.start()
        bar.update(task, completed=now.done, total=now.total, speed=speed(now))

    try:
        yield show
    finally:
        bar.stop()
