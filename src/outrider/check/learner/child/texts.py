"""Counts of texts that a decoder returns, whatever it puts around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from outrider.check.learner.child.channel import Channel, Misfit, end_copies
from outrider.check.learner.child.libraries import token_list
from outrider.check.learner.child.loading import Found, parameters_of
from outrider.check.learner.tables import VOCAB

LOOKS = 30  # texts that tell whether the prompt is among them
MOST_TEXTS = 3000
STOP_TEXTS = 100
STOP_LENGTH = 12
LEAST_STOP_TEXTS = 10
Decode = Callable[[], list[list[int]]]


class Texts:
    """Texts of one prompt.

    Args:
        length: how many tokens were asked for.
        keep: how many of them are counted.
    """

    def __init__(self, prompt: Sequence[int], length: int, keep: int) -> None:
        self._prompt = list(prompt)
        self._length = length
        self._keep = keep
        self._seen: Counter[tuple[int, ...]] = Counter()

    def add(self, text: Sequence[int]) -> None:
        self._seen[tuple(text)] += 1

    def has_prompt(self) -> bool:
        """Whether every text begins with the prompt, and is long enough for both or never long enough without."""
        start = len(self._prompt)
        return all(list(text[:start]) == self._prompt and len(text) >= start for text in self._seen)

    def told(self, strip: bool) -> dict[str, Any]:
        """In plain data."""
        start = len(self._prompt) if strip else 0
        kept: Counter[tuple[int, ...]] = Counter()
        lengths: Counter[int] = Counter()
        outside = None
        for text, times in self._seen.items():
            new = text[start:]
            kept[new[: self._keep]] += times
            lengths[len(new)] += times
            if outside is None and any(not 0 <= token < VOCAB for token in new):
                outside = list(new[:20])
        return {
            "prompt": self._prompt,
            "asked": self._length,
            "counts": [[list(text), times] for text, times in kept.items()],
            "lengths": sorted(lengths.items()),
            "outside": outside,
        }


def as_texts(result: Any, count: int, what: str) -> list[list[int]]:
    """Lists of tokens, one a prompt.

    Raises:
        Misfit: it is something else.
    """
    end_copies()
    if result is None:
        raise Misfit(f"{what} returns None", "not_written")
    held = result.tolist() if hasattr(result, "tolist") else result
    if not isinstance(held, list | tuple):
        raise Misfit(f"{what} returns a {type(result).__name__}: a list of lists of tokens is wanted")
    if len(held) != count:
        raise Misfit(f"{what} returns {len(held)} texts for {count} prompts", "row_count")
    return [token_list(text, "a text") for text in held]


class Seeds:
    """A new seed for each call, where a function takes one."""

    def __init__(self, function: Any) -> None:
        self._seeds = count() if "seed" in parameters_of(function) else None

    def next(self) -> dict[str, int]:
        return {} if self._seeds is None else {"seed": next(self._seeds)}


def ends_late(text: Sequence[int], stop: int) -> bool:
    """Whether something follows the first stop token."""
    return stop in text and list(text).index(stop) < len(text) - 1


@contextmanager
def stop_constants(found: Found, stop: int) -> Iterator[bool]:
    """The file's own constants for the stop token have this value meanwhile. Yields whether there are any."""
    before = {name: found.names[name] for name in found.stop_constants()}
    found.names.update(dict.fromkeys(before, stop))
    try:
        yield bool(before)
    finally:
        found.names.update(before)


def observe_stop(channel: Channel, what: str, decode: Callable[[], list[int]], prompt: Sequence[int], stop: int) -> int:
    """Tell the first text that goes on after the stop token, and the first that ends early without it.

    A file may leave the stop token out; then its short texts say nothing. Returns how many texts were looked at.
    """
    end = channel.until(0.1)
    late, short, looked, included = None, None, 0, False
    while looked < STOP_TEXTS and late is None and (looked < LEAST_STOP_TEXTS or channel.now() < end):
        text = decode()
        start = len(prompt) if list(text[: len(prompt)]) == list(prompt) and len(text) > STOP_LENGTH else 0
        new = text[start:]
        late = new if ends_late(new, stop) else None
        included |= stop in new
        if short is None and stop not in new and len(new) < STOP_LENGTH:
            short = new
        looked += 1
    channel.send("stop", what=what, late=late, short=short if included else None, texts=looked)
    return looked
