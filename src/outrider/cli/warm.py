"""`outrider warm`: what the lookup drafter starts with, learned from a model's own answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import progress as bars

from outrider.cli.options.files import STANDARD_INPUT, read_text
from outrider.cli.options.group import option
from outrider.cli.options.models import RuntimeOptions
from outrider.cli.terminal import messages
from outrider.drafters.lookup.loading import fingerprint, warm_file
from outrider.drafters.recycling.state import save_state
from outrider.drafters.recycling.successors import KEPT
from outrider.errors import InputError, SettingError
from outrider.prompts.chat import Chat, encode_prompt
from outrider.prompts.files import FilePrompt, parse_prompts
from outrider.prompts.tokens import check_tokens
from outrider.runtimes.base import Model
from outrider.training.shards import Text, read_shards, write_shard
from outrider.training.sweep import expectations
from outrider.training.synthesis import SynthesisSettings, answered, self_written, users_turn_of
from outrider.training.warming import Warming
from outrider_command import INTERRUPTED

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
    input: Annotated[
        Path | None,
        option("--input", "FILE", "Answer these prompts, as of generate --input. Default: what the model asks itself."),
    ] = None,
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
    prompts = None if input is None else _prompts_of(input)
    if data is not None:
        _make(data)
    target = runtime.open(model)
    file = _place(target, output)
    asked = None if prompts is None else _encoded(prompts, target)
    if minutes and asked is None:
        users_turn_of(target)  # a model that cannot ask itself is refused before its vocabulary is read
    known = [] if data is None else list(read_shards(data, fingerprint(target)))
    warming = Warming(target.traits.vocab_size, fingerprint(target))
    with _bar("vocabulary", target.traits.vocab_size) as advance:
        for tokens, top, probabilities in expectations(target, KEPT):
            warming.learn_tokens(tokens, top, probabilities)
            advance(len(tokens))
    for text in known:
        warming.learn_text(text)
    settings = SynthesisSettings(rows=max_rows, top=KEPT, openings=OPENINGS, seed=seed + len(known))
    texts = self_written(target, settings) if asked is None else answered(target, asked, settings)
    interrupted = False
    try:
        if minutes:
            _write(texts, minutes, warming, data)
    except KeyboardInterrupt:
        interrupted = True
    state = warming.state(pairs)
    save_state(state, file)
    size = file.stat().st_size / 1e6
    stopped = "stopped: " if interrupted else ""
    messages().print(
        f"{stopped}{state!r} from {warming.tokens:,} tokens of answers: {file} ({size:.1f} MB)", style="dim"
    )
    return INTERRUPTED if interrupted else 0


def _prompts_of(file: Path) -> list[FilePrompt]:
    name = "standard input" if str(file) == STANDARD_INPUT else str(file)
    return parse_prompts(read_text(file), name)


def _encoded(prompts: Sequence[FilePrompt], target: Model) -> list[tuple[int, ...]]:
    """The prompts in token ids, through the chat template where there is one."""
    found = []
    for prompt in prompts:
        try:
            tokens = encode_prompt(prompt.request.prompt, target.tokenizer, target.name, Chat()).tokens
            check_tokens(tokens, target, target.traits.context_length)
        except (InputError, SettingError) as error:
            raise InputError(f"{prompt.place} cannot be used: {error}") from error
        found.append(tokens)
    return found


def _place(target: Model, output: Path | None) -> Path:
    """Where the state goes; its folder is there."""
    if output is None and target.tokenizer is None:
        raise SettingError(
            f"{target.name} has no tokenizer, by which its state could be found: give --output FILE, and the same FILE "
            "to generate with --drafter-state"
        )
    file = warm_file(target) if output is None else output
    _make(file.parent)
    return file


def _write(texts: Iterator[list[Text]], minutes: float, warming: Warming, data: Path | None) -> None:
    """Learn the texts of the next minutes, and keep them in shards where there is a folder for them."""
    begun = written = last = time.monotonic()
    held: list[Text] = []
    try:
        with _bar("writing", 60 * minutes) as advance:
            for finished in texts:
                for text in finished:
                    warming.learn_text(text)
                    held.append(text)
                now = time.monotonic()
                advance(now - last)
                last = now
                if now - begun > 60 * minutes:
                    return
                if data is not None and held and now - written > SECONDS_OF_A_SHARD:
                    write_shard(data, held, warming.tokenizer)
                    held, written = [], now
    finally:
        if data is not None and held:
            write_shard(data, held, warming.tokenizer)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {folder} cannot be made ({error.strerror}): choose another place") from error


@contextmanager
def _bar(what: str, total: float) -> Iterator[Callable[[float], None]]:
    """A progress bar, where somebody is looking. Yields a function that moves it on."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=messages(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda step: bar.advance(task, step)
