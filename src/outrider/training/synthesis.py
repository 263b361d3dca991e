"""Text that a model writes itself: it invents what a user might ask, and answers.

An instruct model whose chat template is opened at the user's turn writes a prompt (Magpie, arXiv 2406.08464). The
answers are its own, which is what a drafter has to predict.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from outrider.engine.engine import Engine
from outrider.engine.handle import Handle
from outrider.errors import InputError, ModelError
from outrider.maths.sampling import SamplingParams
from outrider.prompts.request import Request
from outrider.runtimes.base import Model
from outrider.text import Tokenizer
from outrider.training.recorder import Recorder
from outrider.training.shards import Text

LONGEST_QUESTION = 96  # tokens
SHORTEST_QUESTION = 12  # characters
AROUND = 64  # tokens of a chat template around a question, and of its opening


@dataclass(frozen=True, slots=True)
class SynthesisSettings:
    """How a model writes to itself.

    Attributes:
        rows: texts at once.
        answer: the most tokens of an answer.
        top: how many of the most probable tokens are recorded.
        temperatures: of the answers; one is chosen for each.
        openings: beginnings of questions, so that they differ in kind; an empty one leaves it to the model.
        seed: of all choices.
    """

    rows: int = 32
    answer: int = 192
    top: int = 8
    temperatures: Sequence[float] = (0.0, 0.0, 0.6)
    openings: Sequence[str] = ("",)
    seed: int = 0


def self_written(
    target: Model, settings: SynthesisSettings, known: Callable[[Sequence[int]], bool] = lambda prompt: False
) -> Iterator[list[Text]]:
    """Questions and answers of a model, without end; no question comes twice.

    Args:
        known: says of the token ids of a prompt whether they were answered before; those are left out.

    Yields:
        After each round of the engine the texts that it finished, often none.

    Raises:
        ModelError: the model has no chat template, so that nobody asks in it; or a text failed.
    """
    users_turn = users_turn_of(target)
    tokenizer = target.tokenizer
    assert tokenizer is not None  # it has a chat template
    writer = _Writer(target, settings, len(users_turn) + 2 * LONGEST_QUESTION + AROUND)
    questions = _Questions(tokenizer, users_turn, settings, writer)
    while True:
        while writer.has_room:
            prompt = questions.next_prompt()
            if prompt is None:
                questions.ask()
                continue
            if known(prompt):
                continue
            with suppress(InputError):  # a question that leaves no room for an answer
                writer.answer(prompt)
        yield writer.step(questions.collect)


def answered(target: Model, prompts: Sequence[Sequence[int]], settings: SynthesisSettings) -> Iterator[list[Text]]:
    """A model's answers to prompts of token ids, in no particular order; it ends when all are answered.

    Yields:
        As `self_written`.

    Raises:
        InputError: a prompt leaves no room for an answer.
        ModelError: a text failed.
    """
    writer = _Writer(target, settings, max(map(len, prompts), default=1))
    waiting = list(reversed(prompts))
    while waiting or writer.busy:
        while waiting and writer.has_room:
            writer.answer(waiting.pop())
        yield writer.step()


def users_turn_of(target: Model) -> list[int]:
    """A conversation up to the place where the user's words begin.

    Raises:
        ModelError: the model has no chat template, or one in which a conversation does not begin so.
    """
    users_turn = None if target.tokenizer is None else opened_at_the_user(target.tokenizer)
    if users_turn is None:
        raise ModelError(
            f"{target.name} has no chat template, so that it cannot ask itself: give it prompts, with --input FILE, "
            "or learn from its vocabulary alone, with --minutes 0"
        )
    return users_turn


def opened_at_the_user(tokenizer: Tokenizer) -> list[int] | None:
    """A conversation up to the place where the user's words begin; None where there is no such place."""
    one, other = ([{"role": "user", "content": content}] for content in ("Aa", "Zz"))
    try:
        first, second = tokenizer.encode_chat(one), tokenizer.encode_chat(other)
    except InputError:
        return None  # the template refuses them
    if first is None or second is None:
        return None
    alike = next((place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), 0)
    return first[:alike] or None


class _Writer:
    """An engine that answers, and the record of what the target thought of each token.

    Args:
        longest: tokens of a prompt.
    """

    def __init__(self, target: Model, settings: SynthesisSettings, longest: int) -> None:
        self._recorder = Recorder(settings.top)
        self._settings = settings
        self._chooser = random.Random(settings.seed)
        self._engine = Engine(
            target,
            self._recorder,
            lookahead=1,  # a recorder drafts nothing; with 0 it would not be told what the target expects
            max_rows=settings.rows,
            capacity=min(longest + settings.answer, target.traits.context_length),
        )
        self._answers: dict[int, tuple[Handle, Sequence[int]]] = {}
        self._others: dict[int, Handle] = {}

    @property
    def busy(self) -> bool:
        return bool(self._answers or self._others)

    @property
    def has_room(self) -> bool:
        return len(self._answers) + len(self._others) < self._settings.rows

    def answer(self, prompt: Sequence[int]) -> None:
        """Raises InputError where the prompt leaves no room."""
        temperature = self._chooser.choice(self._settings.temperatures)
        sampling = SamplingParams(temperature=temperature, seed=self._chooser.getrandbits(48))
        room = max(self._engine.capacity - len(prompt), 1)
        request = Request(prompt, min(self._settings.answer, room), sampling, detokenize=False)
        handle = self._engine.submit(request)
        self._answers[handle.id] = handle, prompt

    def write(self, request: Request) -> Handle:
        """Decode something that is no answer."""
        handle = self._engine.submit(request)
        self._others[handle.id] = handle
        return handle

    def step(self, collect: Callable[[Handle], None] = lambda handle: None) -> list[Text]:
        """One round; the answers that ended.

        Args:
            collect: is handed what `write` was asked for, once it has ended.
        """
        self._engine.step()
        for number, handle in list(self._others.items()):
            if _has_ended(handle):
                del self._others[number]
                self._recorder.drop(number)
                collect(handle)
        texts = []
        for number, (handle, prompt) in list(self._answers.items()):
            if _has_ended(handle):
                del self._answers[number]
                texts.append(Text((*prompt, *handle.tokens), len(prompt), *self._recorder.take(number)))
        return texts


def _has_ended(handle: Handle) -> bool:
    if handle.error is not None:
        raise handle.error
    return handle.finish_reason is not None


class _Questions:
    """What the model asks itself."""

    def __init__(
        self, tokenizer: Tokenizer, users_turn: list[int], settings: SynthesisSettings, writer: _Writer
    ) -> None:
        self._tokenizer = tokenizer
        self._users_turn = users_turn
        self._openings = settings.openings
        self._writer = writer
        self._chooser = random.Random(settings.seed + 1)
        self._open: dict[int, str] = {}  # the openings of the questions that are being written
        self._asked: set[str] = set()
        self._waiting: list[str] = []

    def ask(self) -> None:
        opening = self._chooser.choice(self._openings)
        prompt = self._users_turn + (self._tokenizer.encode(opening) if opening else [])
        sampling = SamplingParams(temperature=1.0, top_p=0.95, seed=self._chooser.getrandbits(48))
        handle = self._writer.write(Request(prompt, LONGEST_QUESTION, sampling))
        self._open[handle.id] = opening

    def collect(self, handle: Handle) -> None:
        question = (self._open.pop(handle.id) + handle.text).strip()
        whole = handle.finish_reason == "stop" and len(question) >= SHORTEST_QUESTION
        if whole and question not in self._asked:
            self._asked.add(question)
            self._waiting.append(question)

    def next_prompt(self) -> list[int] | None:
        """The conversation that a question opens; None where none waits."""
        while self._waiting:
            try:
                return self._tokenizer.encode_chat([{"role": "user", "content": self._waiting.pop()}])
            except InputError:
                continue  # a question that the template refuses
        return None
