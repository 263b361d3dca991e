"""Text that a model writes itself: it invents what a user might ask, and answers.

An instruct model whose chat template is opened at the user's turn writes a prompt (Magpie, arXiv 2406.08464). The
answers are its own, which is what a drafter has to foretell.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from outrider.engine.engine import Engine
from outrider.engine.handle import Handle
from outrider.errors import ModelError
from outrider.maths.sampling import SamplingParams
from outrider.prompts.request import Request
from outrider.runtimes.base import Model
from outrider.text import Tokenizer
from outrider.training.recorder import Recorder
from outrider.training.shards import Text

LONGEST_QUESTION = 96  # tokens
SHORTEST_QUESTION = 12  # characters


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


@dataclass(slots=True)
class _Open:
    """Texts that are being written: questions with their openings, and answers with their prompts."""

    questions: dict[int, tuple[Handle, str]] = field(default_factory=dict)
    answers: dict[int, tuple[Handle, list[int]]] = field(default_factory=dict)


def self_written(target: Model, settings: SynthesisSettings) -> Iterator[Text]:
    """Questions and answers of a model, without end; no question comes twice.

    Raises:
        ModelError: the model has no chat template, so that nobody asks in it.
    """
    tokenizer = target.tokenizer
    users_turn = None if tokenizer is None else opened_at_the_user(tokenizer)
    if tokenizer is None or users_turn is None:
        raise ModelError(f"{target.name} has no chat template: give an instruct model, or texts of your own")
    chooser = random.Random(settings.seed)
    recorder = Recorder(settings.top)
    engine = Engine(
        target,
        recorder,
        lookahead=0,
        max_rows=settings.rows,
        capacity=len(users_turn) + 2 * LONGEST_QUESTION + settings.answer + 64,
    )
    asked: set[str] = set()
    waiting: list[str] = []
    texts = _Open()
    while True:
        while len(texts.questions) + len(texts.answers) < settings.rows:
            if waiting:
                _answer(engine, tokenizer, waiting.pop(), settings, chooser, texts)
            else:
                _ask(engine, tokenizer, users_turn, settings, chooser, texts)
        engine.step()
        for number, (handle, opening) in list(texts.questions.items()):
            if handle.finish_reason is not None:
                del texts.questions[number]
                recorder.take(number)
                question = (opening + handle.text).strip()
                if handle.finish_reason == "stop" and len(question) >= SHORTEST_QUESTION and question not in asked:
                    asked.add(question)
                    waiting.append(question)
        for number, (handle, prompt) in list(texts.answers.items()):
            if handle.finish_reason is not None:
                del texts.answers[number]
                top, probabilities = recorder.take(number)
                yield Text((*prompt, *handle.tokens), len(prompt), top, probabilities)


def opened_at_the_user(tokenizer: Tokenizer) -> list[int] | None:
    """A conversation up to the place where the user's words begin; None without a chat template."""
    one, other = ([{"role": "user", "content": content}] for content in ("Aa", "Zz"))
    first, second = tokenizer.encode_chat(one), tokenizer.encode_chat(other)
    if first is None or second is None:
        return None
    alike = next((place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), 0)
    return first[:alike]


def _ask(
    engine: Engine,
    tokenizer: Tokenizer,
    users_turn: list[int],
    settings: SynthesisSettings,
    chooser: random.Random,
    texts: _Open,
) -> None:
    opening = chooser.choice(settings.openings)
    prompt = users_turn + (tokenizer.encode(opening) if opening else [])
    sampling = SamplingParams(temperature=1.0, top_p=0.95, seed=chooser.getrandbits(48))
    handle = engine.submit(Request(prompt, LONGEST_QUESTION, sampling))
    texts.questions[handle.id] = handle, opening


def _answer(
    engine: Engine,
    tokenizer: Tokenizer,
    question: str,
    settings: SynthesisSettings,
    chooser: random.Random,
    texts: _Open,
) -> None:
    prompt = tokenizer.encode_chat([{"role": "user", "content": question}])
    assert prompt is not None
    sampling = SamplingParams(temperature=chooser.choice(settings.temperatures), seed=chooser.getrandbits(48))
    handle = engine.submit(Request(prompt, settings.answer, sampling, detokenize=False))
    texts.answers[handle.id] = handle, prompt
