"""`outrider warm`: what the lookup drafter starts with, learned from texts that the model writes itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import progress as bars

from outrider.cli.options.group import option
from outrider.cli.options.models import RuntimeOptions
from outrider.cli.terminal import messages
from outrider.drafters.lookup.loading import fingerprint, warm_file
from outrider.drafters.recycling.state import save_state
from outrider.drafters.recycling.successors import KEPT
from outrider.errors import InputError, SettingError
from outrider.training.shards import Text, read_shards, write_shard
from outrider.training.sweep import expectations
from outrider.training.synthesis import SynthesisSettings, self_written
from outrider.training.warming import Warming

SECONDS_OF_A_SHARD = 60  # a run that is killed loses at most so much

# Beginnings of questions, so that they differ in kind. Half of them are left to the model.
OPENINGS = (
    *[""] * 24,
    *("Write ", "Write a short story about ", "Write an email ", "Imagine you are ", "You are ", "Describe "),
    *("Explain ", "What is ", "Why ", "How do ", "Who ", "Compare ", "Tell me about ", "List ", "If ", "A "),
    *("Solve ", "Calculate ", "Write a Python function ", "Implement ", "Translate ", "Answer the question: "),
    *("Summarize ", "Extract ", "Given the following ", "Based on the passage below, "),
)


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The target: a folder, a name, or smollm2.")],
    runtime: RuntimeOptions,
    minutes: Annotated[
        float, option("--minutes", "N", "How long the model writes. A pass over its vocabulary comes on top.")
    ] = 10.0,
    output: Annotated[
        Path | None, option("--output -o", "FILE", "Default: in the cache folder, where it is found by itself.")
    ] = None,
    data: Annotated[
        Path | None,
        option("--data", "DIR", "Keep the texts here; those of earlier runs are learned from as well."),
    ] = None,
    pairs: Annotated[int, option("--pairs", "N", "The most contexts of two tokens to keep.")] = 60_000,
    max_rows: Annotated[int, option("--max-rows", "N", "Texts at once.")] = 32,
    seed: Annotated[int, option("--seed", "N", "Of the questions that the model asks itself.")] = 0,
) -> int:
    """Learn what a model tends to say, so that drafts are good from the first token on. Nothing is trained."""
    if not minutes >= 0:
        raise SettingError(f"--minutes is {minutes}: it must be at least 0")
    if pairs < 0 or max_rows < 1:
        raise SettingError(f"--pairs is {pairs} and --max-rows {max_rows}: at least 0 contexts and 1 row are needed")
    if data is not None:
        _make(data)
    target = runtime.open(model)
    warming = Warming(target.traits.vocab_size, fingerprint(target))
    file = warm_file(target) if output is None else output
    _make(file.parent)
    with _bar("vocabulary", target.traits.vocab_size) as advance:
        for tokens, top, probabilities in expectations(target, KEPT):
            warming.learn_tokens(tokens, top, probabilities)
            advance(len(tokens))
    before = 0
    if data is not None:
        for text in read_shards(data):
            warming.learn_text(text)
            before += 1
    settings = SynthesisSettings(rows=max_rows, top=KEPT, openings=OPENINGS, seed=seed + before)
    if minutes:
        with _bar("writing", 60 * minutes) as advance:
            for text in _for(minutes, self_written(target, settings), data, advance):
                warming.learn_text(text)
    state = warming.state(pairs)
    save_state(state, file)
    size = file.stat().st_size / 1e6
    messages().print(f"{state!r} from {warming.tokens:,} tokens of answers: {file} ({size:.1f} MB)", style="dim")
    return 0


def _for(minutes: float, texts: Iterator[Text], data: Path | None, advance: Callable[[float], None]) -> Iterator[Text]:
    """The texts of the next minutes, kept in shards where there is a folder for them."""
    begun = written = last = time.monotonic()
    held: list[Text] = []
    try:
        for text in texts:
            now = time.monotonic()
            advance(now - last)
            last = now
            held.append(text)
            yield text
            if now - begun > 60 * minutes:
                return
            if now - written > SECONDS_OF_A_SHARD:
                if data is not None:
                    write_shard(data, held)
                held, written = [], now
    finally:
        if data is not None and held:
            write_shard(data, held)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {folder} cannot be made ({error.strerror}): choose another place") from error


@contextmanager
def _bar(what: str, total: float) -> Iterator[Callable[[float], None]]:
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=messages(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda step: bar.advance(task, step)
