"""Task 1: what draft_generation drafts, and the texts of generate where there is one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import Any

from outrider.check.learner.child.channel import Channel, Halt, Misfit, described
from outrider.check.learner.child.libraries import (
    PROMPT_FORMS,
    STYLES,
    Library,
    Style,
    TableFunction,
    prompt_in,
    token_list,
)
from outrider.check.learner.child.loading import EOS, Found, parameters_of, settings_of
from outrider.check.learner.child.texts import (
    LOOKS,
    MOST_TEXTS,
    STOP_LENGTH,
    Seeds,
    Texts,
    observe_stop,
    stop_constants,
)
from outrider.check.learner.tables import (
    DRAFT,
    DRAFT_TOKENS,
    LONGER_PROMPT,
    LOOKAHEAD,
    PROMPT,
    STOP_TOKEN,
    TARGET,
    TEXT_TOKENS,
    VOCAB,
    WholeText,
)

MOST_DRAFTS = 3000
LENGTHS = (1, 5)
FULL_TOKENS = 12  # of texts in which every draft token is accepted
FULL_TEXTS = 5


@dataclass(frozen=True, slots=True)
class Form:
    """How prompts go in, and logits come out of the models."""

    prompt: str
    style: Style


class Decoders:
    """Makes SpeculativeDecoders of the file over table models."""

    def __init__(self, found: Found, arrays: Library) -> None:
        self._class = found.names["SpeculativeDecoder"]
        self._arrays = arrays
        self.takes_stop = any(EOS.search(name) for name in parameters_of(self._class))

    def make(
        self, style: Style, *, draft: WholeText = DRAFT, stop: int | None = None
    ) -> tuple[Any, TableFunction, TableFunction]:
        """A decoder, its draft model and its target."""
        drafter, target = (
            TableFunction(table, self._arrays, style, -1 if stop is None else stop) for table in (draft, TARGET)
        )
        parameters = parameters_of(self._class)
        settings = settings_of(self._class, 3 if parameters else 0, stop)
        if "lookahead" in parameters:
            return self._class(drafter, target, lookahead=LOOKAHEAD, **settings), drafter, target
        return self._class(drafter, target, LOOKAHEAD, **settings), drafter, target

    def prompt(self, form: Form, tokens: tuple[int, ...]) -> Any:
        return prompt_in(form.prompt, self._arrays, tokens)


def observe_decoder(channel: Channel, found: Found, arrays: Library) -> None:
    """Tell counts of drafts, of texts, and how texts end."""
    decoders = Decoders(found, arrays)
    channel.stage("draft_generation is called")
    with channel.guarded(found.path):
        form = _draft_form(channel, decoders, found)
    try:
        _observe_drafts(channel, decoders, form, found)
    except Halt:
        return
    if not hasattr(found.names["SpeculativeDecoder"], "generate"):
        return
    channel.stage("generate is called")
    with channel.guarded(found.path):
        generate = Generate(decoders, form)
        _observe_texts(channel, generate)
        channel.stage("generate has a draft model that is always right")
        _observe_full_acceptance(channel, generate)
        channel.stage("generate comes to the stop token")
        _observe_end(channel, found, generate)


def _draft_form(channel: Channel, decoders: Decoders, found: Found) -> Form:
    """The first form that gives tokens of the vocabulary.

    Raises:
        Halt: none does; the first failure is told.
    """
    first: dict[str, Any] | None = None
    for style, prompt in product(STYLES, PROMPT_FORMS):
        form = Form(prompt, style)
        try:
            decoder, _, _ = decoders.make(style)
            for tokens in (PROMPT, LONGER_PROMPT) * 3:
                drafted = _draft(decoder, decoders.prompt(form, tokens), DRAFT_TOKENS)
                if any(not 0 <= token < VOCAB for token in drafted):
                    raise Misfit(f"draft_generation returns {drafted} with a vocabulary of {VOCAB}", "outside")
        except BaseException as error:
            first = described(error, found.path) if first is None else first
        else:
            return form
    channel.send("problem", **(first or {}))
    raise Halt


def _draft(decoder: Any, prompt: Any, count: int, **settings: Any) -> list[int]:
    method = decoder.draft_generation
    return token_list(method(prompt, count, **(settings_of(method, 2) | settings)), "what draft_generation returns")


def _observe_drafts(channel: Channel, decoders: Decoders, form: Form, found: Found) -> None:
    with channel.guarded(found.path):
        decoder, _, target = decoders.make(form.style)
        seeds = Seeds(decoder.draft_generation)
        lengths = {
            count: len(_draft(decoder, decoders.prompt(form, PROMPT), count, **seeds.next())) for count in LENGTHS
        }
        seen: dict[tuple[int, ...], Counter[tuple[int, ...]]] = {PROMPT: Counter(), LONGER_PROMPT: Counter()}
        end = channel.until(0.35)
        for _ in range(MOST_DRAFTS):
            for prompt, counts in seen.items():
                drafted = _draft(decoder, decoders.prompt(form, prompt), DRAFT_TOKENS, **seeds.next())
                counts[tuple(drafted[: len(prompt) + DRAFT_TOKENS])] += 1
            if channel.now() > end:
                break
        for prompt, counts in seen.items():
            told = [[list(tokens), times] for tokens, times in counts.items()]
            channel.send("drafts", prompt=prompt, counts=told, lengths=lengths, target_calls=target.calls)


class Generate:
    """Calls generate of a decoder."""

    def __init__(self, decoders: Decoders, form: Form) -> None:
        self.decoders = decoders
        self.form = form

    def __call__(self, decoder: Any, prompt: tuple[int, ...], length: int, **settings: Any) -> list[int]:
        method = decoder.generate
        given = [self.decoders.prompt(self.form, prompt)]
        parameters = list(parameters_of(method))[1:]
        limit = next((name for name in parameters if name.startswith(("max", "num"))), None)
        if limit is None and any(each.kind is each.VAR_KEYWORD for each in parameters_of(method).values()):
            limit = "max_tokens"
        if limit is None:
            given.append(length)
        else:
            settings[limit] = length
        known = {name: value for name, value in settings_of(method, 1).items() if name not in settings}
        result = method(*given, **(known | settings))
        if result is None:
            raise Misfit("generate returns None", "not_written")
        result = getattr(result, "tokens", result)
        if isinstance(result, tuple) and result and isinstance(result[0], list):
            result = result[0]  # (tokens, statistics)
        return token_list(result, "what generate returns")


def _observe_texts(channel: Channel, generate: Generate) -> None:
    decoder, _, _ = generate.decoders.make(generate.form.style)
    seeds = Seeds(decoder.generate)
    texts = Texts(PROMPT, TEXT_TOKENS, TEXT_TOKENS)
    end = channel.until(0.4)
    for done in range(MOST_TEXTS):
        texts.add(generate(decoder, PROMPT, TEXT_TOKENS, **seeds.next()))
        if channel.now() > end and done >= LOOKS:
            break
    channel.send("texts", what="generate", told=texts.told(strip=texts.has_prompt()))


def _observe_full_acceptance(channel: Channel, generate: Generate) -> None:
    decoder, _, target = generate.decoders.make(generate.form.style, draft=TARGET)
    for _ in range(FULL_TEXTS):
        generate(decoder, PROMPT, FULL_TOKENS)
    channel.send("calls", tokens=FULL_TOKENS, lookahead=LOOKAHEAD, calls=target.calls / FULL_TEXTS)


def _observe_end(channel: Channel, found: Found, generate: Generate) -> None:
    with stop_constants(found, STOP_TOKEN) as constants:
        decoder, drafter, target = generate.decoders.make(generate.form.style, stop=STOP_TOKEN)
        method = decoder.generate
        settings = {name: value for name, value in settings_of(method, 1, STOP_TOKEN).items() if EOS.search(name)}
        generate(decoder, PROMPT, STOP_LENGTH, **settings)
        asked = drafter.ends.asked or target.ends.asked
        if not (constants or settings or asked or generate.decoders.takes_stop):
            channel.send("no_stop", what="generate")
            return
        observe_stop(
            channel,
            "generate",
            lambda: generate(decoder, PROMPT, STOP_LENGTH, **settings),
            PROMPT,
            STOP_TOKEN,
        )
