"""Task 4: the texts of batched_speculative_decode, of each row beside others and alone."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

from outrider.check.learner.child.channel import Channel, Halt, described
from outrider.check.learner.child.libraries import STYLES, Library, Style, TableFunction, prompt_in
from outrider.check.learner.child.loading import EOS, Found, parameters_of, settings_of
from outrider.check.learner.child.texts import (
    LOOKS,
    MOST_TEXTS,
    STOP_LENGTH,
    Seeds,
    Texts,
    as_texts,
    observe_stop,
    stop_constants,
)
from outrider.check.learner.tables import (
    BATCH,
    DRAFT,
    LOOKAHEAD,
    STOP_TOKEN,
    TARGET,
    TEXT_TOKENS,
    USUAL_LOOKAHEAD,
)

LENGTHS = (1, 7)
TRIES = 3
Prompts = tuple[tuple[int, ...], ...]
NAME = "batched_speculative_decode"


class Decode:
    """Calls batched_speculative_decode in one form."""

    def __init__(self, function: Any, arrays: Library, style: Style, prompt: str) -> None:
        self._function = function
        self._arrays = arrays
        self._style = style
        self._prompt = prompt
        self._seeds = Seeds(function)
        self._names = parameters_of(function)
        self.asked_for_stop = False

    @property
    def lookahead(self) -> int:
        return LOOKAHEAD if "lookahead" in self._names else USUAL_LOOKAHEAD

    def __call__(self, prompts: Prompts, length: int, stop: int | None = None) -> list[list[int]]:
        models = [
            TableFunction(table, self._arrays, self._style, -1 if stop is None else stop) for table in (DRAFT, TARGET)
        ]
        given = [prompt_in(self._prompt, self._arrays, prompt) for prompt in prompts]
        settings = settings_of(self._function, 4 if self._names else 0, stop) | self._seeds.next()
        if "lookahead" in self._names:
            settings["lookahead"] = LOOKAHEAD
        result = self._function(given, *models, length, **settings)
        self.asked_for_stop |= any(model.ends.asked for model in models)
        return as_texts(result, len(prompts), NAME)

    def takes_stop(self) -> bool:
        return any(EOS.search(name) for name in self._names)


def observe_batch(channel: Channel, found: Found, arrays: Library) -> None:
    """Tell the texts of rows in a batch, of the same prompts alone, and how texts end."""
    channel.stage("batched_speculative_decode is called")
    decode = _form(channel, found, arrays)
    with channel.guarded(found.path):
        _observe_rows(channel, decode)
        channel.stage("batched_speculative_decode is given a single prompt")
        for prompt in BATCH[:2]:
            _observe_alone(channel, decode, prompt)
        channel.stage("batched_speculative_decode is asked for other numbers of tokens")
        for length in LENGTHS:
            rows = decode(BATCH, length)
            channel.send("lengths", asked=length, prompts=BATCH, lengths=[len(row) for row in rows])
        channel.stage("batched_speculative_decode comes to the stop token")
        _observe_end(channel, found, decode)


def _form(channel: Channel, found: Found, arrays: Library) -> Decode:
    """The form in which texts have the length that was asked for, else the first in which there are texts.

    Raises:
        Halt: there is none; the first failure is told.
    """
    first: dict[str, Any] | None = None
    usable: Decode | None = None
    for style, prompt in product(STYLES, ("a list", "an array [L]", "an array [1, L]")):
        decode = Decode(found.names[NAME], arrays, style, prompt)
        try:
            seen = [decode(BATCH, TEXT_TOKENS) for _ in range(TRIES)]
        except BaseException as error:
            first = described(error, found.path) if first is None else first
            continue
        if all(
            len(row) in (TEXT_TOKENS, TEXT_TOKENS + len(prompt))
            for rows in seen
            for row, prompt in zip(rows, BATCH, strict=True)
        ):
            return decode
        usable = usable if usable is not None else decode
    if usable is None:
        channel.send("problem", **(first or {}))
        raise Halt
    return usable


def _observe_rows(channel: Channel, decode: Decode) -> None:
    rows = [Texts(prompt, TEXT_TOKENS, TEXT_TOKENS) for prompt in BATCH]
    pairs: Counter[tuple[int, int]] = Counter()
    equal = done = 0
    end = channel.until(0.45)
    for done in range(1, MOST_TEXTS + 1):
        texts = decode(BATCH, TEXT_TOKENS)
        for row, text in zip(rows, texts, strict=True):
            row.add(text)
        same, twin = (texts[number] for number, prompt in enumerate(BATCH) if prompt == BATCH[0])
        start = len(BATCH[0]) if len(same) > TEXT_TOKENS else 0
        pairs[tuple((text[start : start + 1] or [-1])[0] for text in (same, twin))] += 1  # type: ignore[index]
        equal += same == twin
        if channel.now() > end and done > LOOKS:
            break
    strip = all(row.has_prompt() for row in rows)
    for number, row in enumerate(rows):
        channel.send("texts", what=f"row {number}", told=row.told(strip), lookahead=decode.lookahead)
    channel.send("twins", pairs=[[*pair, times] for pair, times in pairs.items()], equal=equal, texts=done)


def _observe_alone(channel: Channel, decode: Decode, prompt: tuple[int, ...]) -> None:
    texts = Texts(prompt, TEXT_TOKENS, TEXT_TOKENS)
    end = channel.until(0.15)
    for done in range(MOST_TEXTS):
        texts.add(decode((prompt,), TEXT_TOKENS)[0])
        if channel.now() > end and done > LOOKS:
            break
    channel.send("texts", what="alone", told=texts.told(texts.has_prompt()), lookahead=decode.lookahead)


def _observe_end(channel: Channel, found: Found, decode: Decode) -> None:
    with stop_constants(found, STOP_TOKEN) as constants:
        decode(BATCH, STOP_LENGTH, STOP_TOKEN)
        if not (constants or decode.takes_stop() or decode.asked_for_stop):
            channel.send("no_stop", what=NAME)
            return
        observe_stop(channel, NAME, lambda: decode(BATCH, STOP_LENGTH, STOP_TOKEN)[0], BATCH[0], STOP_TOKEN)
