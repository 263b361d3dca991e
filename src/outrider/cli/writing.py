"""What commands share that have a model write: prompts, shards, progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from outrider.cli.options.files import STANDARD_INPUT, read_text
from outrider.cli.terminal import reporting_bar
from outrider.errors import InputError, SettingError
from outrider.prompts.chat import Chat, encode_prompt
from outrider.prompts.files import FilePrompt, parse_prompts
from outrider.prompts.tokens import check_tokens
from outrider.runtimes.base import Model
from outrider.training.shards import Text, write_shard

SECONDS_OF_A_SHARD = 30.0  # a run that is killed loses so much, and the texts that are not at their end

# Beginnings of questions, so that they differ in kind. Half of them are left to the model.
OPENINGS = (
    *[""] * 24,
    *("Write ", "Write a short story about ", "Write an email ", "Imagine you are ", "You are ", "Describe "),
    *("Explain ", "What is ", "Why ", "How do ", "Who ", "Compare ", "Tell me about ", "List ", "If ", "A "),
    *("Solve ", "Calculate ", "Write a Python function ", "Implement ", "Translate ", "Answer the question: "),
    *("Summarize ", "Extract ", "Given the following ", "Based on the passage below, "),
)


def prompts_of(file: Path) -> list[FilePrompt]:
    name = "standard input" if str(file) == STANDARD_INPUT else str(file)
    return parse_prompts(read_text(file), name)


def encoded(prompts: Sequence[FilePrompt], target: Model) -> list[tuple[int, ...]]:
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


def write_texts(
    texts: Iterator[list[Text]],
    minutes: float,
    learn: Callable[[Text], object],
    data: Path | None,
    tokenizer: str,
    suffice: Callable[[], bool] = lambda: True,
) -> None:
    """Learn the texts of the next minutes, and keep them in shards where there is a folder for them.

    Args:
        tokenizer: the fingerprint.
        suffice: asked after these minutes whether to end.
    """
    begun = written = last = time.monotonic()
    held: list[Text] = []
    count = tokens = 0
    try:
        with reporting_bar("writing", 60 * minutes) as advance:
            for finished in texts:
                for text in finished:
                    learn(text)
                    held.append(text)
                    tokens += len(text.tokens) - text.prompt
                count += len(finished)
                now = time.monotonic()
                advance(now - last, f"{count:,} texts, {tokens:,} tokens")
                last = now
                if now - begun > 60 * minutes and suffice():
                    return
                if data is not None and held and now - written > SECONDS_OF_A_SHARD:
                    write_shard(data, held, tokenizer, now - written)
                    held, written = [], now
    finally:
        if data is not None and held:
            write_shard(data, held, tokenizer, time.monotonic() - written)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {folder} cannot be made ({error.strerror}): choose another place") from error
