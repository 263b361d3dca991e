"""Task 4: what the texts of batched_speculative_decode say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from outrider.check.learner.decoding_laws import Text, TextLaw, plain_law
from outrider.check.learner.evidence import Law, explanation, strangest, tests_of
from outrider.check.learner.judges import texts
from outrider.check.learner.judges.wording import comparison, tokens
from outrider.check.learner.process import Message, Observed
from outrider.check.learner.tables import BATCH, STOP_TOKEN, TARGET, TEXT_TOKENS, VOCAB
from outrider.check.learner.verdicts import Finding, Verdict


def judge_batch(verdict: Verdict, observed: Observed) -> None:
    """Add what the observations say."""
    told = observed.of("texts")
    usable = [texts.judge_form(verdict, message["told"]) for message in told]
    rows = [(message, texts.counts_of(message["told"])) for message in told if message["what"] != "alone"]
    alone = [(message, texts.counts_of(message["told"])) for message in told if message["what"] == "alone"]
    if rows:
        batches = int(sum(rows[0][1].values()))
        verdict.trials.append(f"{batches:,} batches of {len(BATCH)} prompts")
    for message in observed.of("lengths"):
        _judge_lengths(verdict, message)
    if all(usable) and rows and not _all_greedy(verdict, rows + alone):
        right = all(_right_alone(verdict, message, counts) for message, counts in alone)
        if right and all(_right_beside(verdict, message, counts) for message, counts in rows):
            _judge_twins(verdict, observed)
    texts.judge_stop(verdict, observed.of("stop"), STOP_TOKEN)
    texts.note_no_stop(verdict, observed.of("no_stop"))


def _judge_lengths(verdict: Verdict, message: Message) -> None:
    asked = int(message["asked"])
    lengths = [int(length) for length in message["lengths"]]
    with_prompts = all(
        length >= asked + len(prompt) for length, prompt in zip(lengths, message["prompts"], strict=True)
    )
    if with_prompts:
        lengths = [length - len(prompt) for length, prompt in zip(lengths, message["prompts"], strict=True)]
    texts.judge_lengths(verdict, asked, lengths)


def _all_greedy(verdict: Verdict, told: list[tuple[Message, TextLaw]]) -> bool:
    """Whether every text is the same each time. Says whether it is the target's greedy one."""
    only = [texts.only_text(counts) for _, counts in told]
    if any(text is None for text in only):
        return False
    prompts = [tuple(message["told"]["prompt"]) for message, _ in told]
    wrong = [
        (message, text)
        for (message, _), prompt, text in zip(told, prompts, only, strict=True)
        if text != texts.greedy_text(prompt, TEXT_TOKENS)
    ]
    if not wrong:
        verdict.notes.append("it decodes greedily: right at temperature 0, and nothing else was checked")
        return True
    message, text = wrong[0]
    prompt = tuple(message["told"]["prompt"])
    greedy_alone = all(message["what"] != "alone" for message, _ in wrong)
    likely = texts.greedy_text(prompt, TEXT_TOKENS)
    shown = f"prompt {tokens(prompt)} gives {tokens(text or ())} every time"
    if greedy_alone and len(wrong) < len(told):
        verdict.add(Finding("rows_leak", example=(f"{shown} in a batch, and {tokens(likely)} alone",)))
    else:
        verdict.add(Finding("constant", example=(shown,)))
    return True


def _right_alone(verdict: Verdict, message: Message, counts: TextLaw) -> bool:
    prompt: Text = tuple(message["told"]["prompt"])
    found = texts.strange_text(verdict, counts, prompt, int(message["lookahead"]))
    if found is None:
        return True
    only = texts.only_text(counts)
    key, detail = texts.explained(counts, prompt, int(message["lookahead"])) or ("unknown", "")
    if only is not None:
        key, detail = "constant", ""
    lines, table = texts.example_of(prompt, *found)
    verdict.add(Finding(key, detail, lines, table))
    return False


def _right_beside(verdict: Verdict, message: Message, counts: TextLaw) -> bool:
    prompt: Text = tuple(message["told"]["prompt"])
    found = texts.strange_text(verdict, counts, prompt, int(message["lookahead"]))
    if found is None:
        return True
    law = explanation(texts.at(counts, range(texts.JOINT)), _leaks(prompt))
    lines, table = texts.example_of(prompt, *found)
    others = ", ".join(tokens(other) for other in BATCH)
    lines = (f"the batch is {others}; {message['what']} is wrong, and right when its prompt is alone", *lines)
    verdict.add(Finding("rows_leak", "" if law is None else law.detail, lines, table))
    return False


def _leaks(prompt: Text) -> Iterator[Law]:
    """What a row would say if it had read something else."""
    longest = max(map(len, BATCH))
    others = [
        (f"it goes on as if its prompt were {tokens(other)}", other)
        for other in dict.fromkeys(BATCH)
        if other != prompt
    ]
    padding = (0,) * (longest - len(prompt))
    padded = [
        ("padding behind its prompt is read", (*prompt, *padding)),
        ("padding before it is read", (*padding, *prompt)),
    ]
    for detail, text in [*others, *(padded if padding else [])]:
        yield Law("rows_leak", detail, texts.at(plain_law(TARGET, text, texts.JOINT), range(texts.JOINT)))


def _judge_twins(verdict: Verdict, observed: Observed) -> None:
    """Whether the texts of two equal prompts depend on each other."""
    for message in observed.of("twins"):
        pairs = np.zeros((1, VOCAB**2))
        for one, other, times in message["pairs"]:
            if 0 <= one < VOCAB and 0 <= other < VOCAB:
                pairs[0, VOCAB * int(one) + int(other)] += int(times)
        first = TARGET.next_chances(BATCH[0])
        verdict.tests += tests_of(pairs)
        strange = strangest(pairs, np.outer(first, first).reshape(1, -1))
        if strange is None:
            continue
        headings = [f"{one} {other}" for one in range(VOCAB) for other in range(VOCAB)]
        lines = [f"rows 0 and {len(BATCH) - 1} both have prompt {tokens(BATCH[0])}; their first tokens, together:"]
        if message["equal"] == message["texts"]:
            lines.append(f"their whole texts were equal in all {message['texts']:,} batches")
        verdict.add(Finding("shared_noise", "", tuple(lines), comparison(headings, strange.counts, strange.chances)))
