"""What the counts of texts say about a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np

from outrider.check.learner.decoding_laws import (
    Decoder,
    Rounds,
    Text,
    TextLaw,
    decoded_law,
    plain_law,
    wrong_decoders,
)
from outrider.check.learner.evidence import Law, Strange, explanation, strangest, tests_of, unlikely
from outrider.check.learner.judges.wording import chances, comparison, tokens
from outrider.check.learner.process import Message
from outrider.check.learner.tables import DRAFT, TARGET, TEXT_TOKENS, VOCAB
from outrider.check.learner.verdicts import Finding, Table, Verdict
from outrider.maths.arrays import HostFloats

JOINT = 4  # tokens by which known mistakes are told apart
# Groups of places whose tokens are counted together.
PLACES: tuple[tuple[int, ...], ...] = ((0,), (0, 1), (0, 1, 2), (2, 3), (3, 4))


def counts_of(told: Message) -> TextLaw:
    """How often each text of full length came."""
    counts = {tuple(int(token) for token in text): float(times) for text, times in told["counts"]}
    inside = {text: times for text, times in counts.items() if all(0 <= token < VOCAB for token in text)}
    return {text: times for text, times in inside.items() if len(text) == TEXT_TOKENS}


def at(law: TextLaw, places: Sequence[int]) -> HostFloats:
    """The sums over all texts with the same tokens at these places, [1, vocab ** places]."""
    sums = np.zeros((1, VOCAB ** len(places)))
    for text, much in law.items():
        sums[0, np.ravel_multi_index([text[place] for place in places], (VOCAB,) * len(places))] += much
    return sums


def strange_text(
    verdict: Verdict, counts: TextLaw, prompt: Text, lookahead: int
) -> tuple[Strange, tuple[int, ...]] | None:
    """The first group of places whose counts are too far from the truth."""
    truth = right_law(prompt)
    for places in PLACES:
        seen = at(counts, places)
        verdict.tests += tests_of(seen)
        strange = strangest(seen, at(truth, places))
        if strange is not None:
            return strange, places
    laws = wrong_laws(prompt, lookahead)
    verdict.tests += len(laws)
    joint = tuple(range(JOINT))
    strange = unlikely(at(counts, joint), laws, at(truth, joint))
    return None if strange is None else (strange, joint)


def explained(counts: TextLaw, prompt: Text, lookahead: int) -> tuple[str, str] | None:
    """The known mistake (key, detail) that gives such texts."""
    law = explanation(at(counts, range(JOINT)), wrong_laws(prompt, lookahead))
    return None if law is None else (law.mistake, law.detail)


@cache
def wrong_laws(prompt: Text, lookahead: int) -> tuple[Law, ...]:
    """What known mistakes make of the first tokens after a prompt."""
    return tuple(
        Law(
            decoder.mistake,
            decoder.detail,
            at(decoded_law(decoder, TARGET, DRAFT, prompt, lookahead, JOINT, rounds), range(JOINT)),
        )
        for decoder, rounds in _with_rounds(lookahead)
    )


@cache
def _with_rounds(lookahead: int) -> tuple[tuple[Decoder, Rounds], ...]:
    """The wrong decoders, each with what is known of its rounds from any prompt."""
    return tuple((decoder, {}) for decoder in wrong_decoders(TARGET))


@cache
def right_law(prompt: Text) -> TextLaw:
    """The truth."""
    return plain_law(TARGET, prompt, TEXT_TOKENS)


def example_of(prompt: Text, strange: Strange, places: Sequence[int]) -> tuple[tuple[str, ...], Table]:
    """The smallest example: the first token, or the strangest tokens at several places."""
    prompt_line = f"prompt {tokens(prompt)}, {strange.trials:,} texts"
    if places == (0,):
        p, q = TARGET.next_chances(prompt), DRAFT.next_chances(prompt)
        lines = (f"{prompt_line}; after it p = {chances(p)}, q = {chances(q)}",)
        return lines, comparison([f"token {token}" for token in range(VOCAB)], strange.counts, strange.chances)
    combinations = list(product(range(VOCAB), repeat=len(places)))
    worst = np.argsort(-np.abs(strange.counts / strange.trials - strange.chances))[:4]
    headings = [tokens(combinations[number]) for number in worst]
    where = " and ".join(str(place + 1) for place in places)
    table = comparison(headings, strange.counts[worst], strange.chances[worst])
    shares = [
        ["yours", *(f"{100 * strange.counts[number] / strange.trials:.1f} %" for number in worst)],
        table.rows[1],
    ]
    return (f"{prompt_line}; tokens {where} of the text",), Table(table.headings, shares)


def greedy_text(prompt: Text, length: int) -> Text:
    """The target's greedy continuation."""
    text: list[int] = []
    for _ in range(length):
        text.append(int(TARGET.next_chances([*prompt, *text]).argmax()))
    return tuple(text)


def only_text(counts: TextLaw) -> Text | None:
    """The text that came every time, where there is but one."""
    return next(iter(counts)) if len(counts) == 1 and sum(counts.values()) > 20 else None


def judge_form(verdict: Verdict, told: Message) -> bool:
    """Add what lengths and tokens outside the vocabulary say. Returns whether the texts can be judged."""
    if told["outside"]:
        verdict.add(Finding("outside", example=(f"{tokens(told['outside'])}, and the vocabulary is 0 to {VOCAB - 1}",)))
        return False
    return judge_lengths(verdict, int(told["asked"]), [int(length) for length, _ in told["lengths"]])


def judge_lengths(verdict: Verdict, asked: int, lengths: Sequence[int]) -> bool:
    """Add what lengths say. Returns whether the texts are long enough to be judged."""
    if max(lengths) > asked:
        verdict.add(Finding("too_long", example=(f"max_tokens={asked}: a text has {max(lengths)} new tokens",)))
    if min(lengths) < asked:
        verdict.add(Finding("too_short", example=(f"max_tokens={asked}: a text has {min(lengths)} new tokens",)))
    return min(lengths) >= asked


def judge_stop(verdict: Verdict, messages: Sequence[Message], stop: int) -> None:
    """Add what texts with a stop token say."""
    for message in messages:
        if message["late"]:
            text = [int(token) for token in message["late"]]
            verdict.add(Finding("no_end", example=(f"stop token {stop}, text {tokens(text)}",)))
        elif message["short"] is not None:
            text = [int(token) for token in message["short"]]
            verdict.add(
                Finding("ends_early", example=(f"stop token {stop}, text {tokens(text)} of {message['what']}",))
            )
        else:
            verdict.trials.append(f"{int(message['texts'])} texts to a stop token")


def note_no_stop(verdict: Verdict, messages: Sequence[Message]) -> None:
    """Say that the file knows no stop token. The chapter's signatures have none."""
    for message in messages:
        name = "batched_speculative_decode" if message["what"] != "generate" else "generate"
        verdict.notes.append(f"no end at EOS: {name} knows no stop token (an argument eos_token_id would do)")
