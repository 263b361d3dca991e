"""Task 1: what drafts and the texts of generate say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np

from outrider.check.learner.decoding_laws import Text
from outrider.check.learner.evidence import Law, explanation, strangest, tests_of, unlikely
from outrider.check.learner.judges import texts
from outrider.check.learner.judges.wording import chances, comparison, tokens
from outrider.check.learner.kernels import TEMPERATURES, normalised, softmax, tempered
from outrider.check.learner.process import Message, Observed
from outrider.check.learner.tables import DRAFT, DRAFT_TOKENS, LOOKAHEAD, PROMPT, STOP_TOKEN, TARGET, VOCAB
from outrider.check.learner.verdicts import Finding, Verdict
from outrider.maths.arrays import HostFloats

Counts = dict[Text, float]
Next = Callable[[Text, Text], HostFloats]  # (prompt, drafted) -> the law of the next draft token
PREFIXES: list[Text] = [text for length in range(DRAFT_TOKENS) for text in product(range(VOCAB), repeat=length)]


def judge_decoder(verdict: Verdict, observed: Observed) -> None:
    """Add what the observations say."""
    greedy_texts = any(_is_greedy(message["told"]) for message in observed.of("texts"))
    drafted = 0
    constant = True
    for message in observed.of("drafts"):
        counts = {tuple(int(token) for token in text): float(times) for text, times in message["counts"]}
        drafted += int(sum(counts.values()))
        constant &= len(counts) == 1 and sum(counts.values()) > 20
    if drafted:
        verdict.trials.append(f"{drafted:,} drafts")
    for message in observed.of("drafts"):
        _judge_drafts(verdict, message, constant, greedy_texts)
    _judge_texts(verdict, observed)


def _judge_drafts(verdict: Verdict, message: Message, constant: bool, greedy_texts: bool) -> None:
    prompt: Text = tuple(message["prompt"])
    counts = {tuple(int(token) for token in text): float(times) for text, times in message["counts"]}
    lengths = {int(asked): int(got) for asked, got in message["lengths"].items()}
    if all(text[: len(prompt)] == prompt and len(text) > len(prompt) for text in counts):
        example = f"prompt {tokens(prompt)}, num_tokens={DRAFT_TOKENS}: returned {tokens(next(iter(counts)))}"
        verdict.add(Finding("draft_prompt", example=(example,)))
        counts = {text[len(prompt) :]: times for text, times in counts.items()}
        lengths = {asked: got - len(PROMPT) for asked, got in lengths.items()}
    if constant:
        _judge_constant(verdict, prompt, next(iter(counts)), greedy_texts)
        return
    varied = len({len(text) for text in counts}) > 1
    asked = next((asked for asked, got in lengths.items() if asked != got), None)
    long = any(len(text) > DRAFT_TOKENS for text in counts)
    if long or (asked is not None and not varied):
        got = lengths[asked] if asked is not None else max(map(len, counts))
        shown = asked if asked is not None else DRAFT_TOKENS
        verdict.add(Finding("draft_count", example=(f"num_tokens={shown}: {got} tokens came",)))
    if _judge_law(verdict, prompt, counts, varied) and varied:
        verdict.notes.append(
            "drafts are shorter than num_tokens now and then, and still exact: they stop after a token"
        )


def _judge_constant(verdict: Verdict, prompt: Text, draft: Text, greedy_texts: bool) -> None:
    likely: list[int] = []
    for _ in range(len(draft)):
        likely.append(int(DRAFT.next_chances([*prompt, *likely]).argmax()))
    q = chances(DRAFT.next_chances(prompt))
    example = f"prompt {tokens(prompt)}, after it q = {q}: the draft is {tokens(draft)} every time"
    if tuple(likely) != draft:
        verdict.add(Finding("constant", example=(example,)))
    elif not greedy_texts:
        verdict.add(Finding("greedy_draft", example=(example,)))


def _judge_law(verdict: Verdict, prompt: Text, counts: Counts, varied: bool) -> bool:
    """Whether draft tokens come from q."""
    seen = _array(lambda prefix: _following(counts, prefix))
    verdict.tests += tests_of(seen)
    right = _array(lambda prefix: DRAFT.next_chances([*prompt, *prefix]))
    laws = [Law(key, detail, _array(partial(law, prompt))) for key, detail, law in _wrong_laws()]
    verdict.tests += len(laws)
    strange = strangest(seen, right) or unlikely(seen, laws, right)
    if strange is None:
        return True
    law = explanation(seen, laws)
    key, detail = ("unknown", "") if law is None else (law.mistake, law.detail)
    if varied and (law is None or key != "discarded"):
        key, detail = "discarded", "drafts are shorter where certain tokens would have come"
    prefix = PREFIXES[strange.group]
    after = f" and the drafted {tokens(prefix)}" if prefix else ""
    line = f"after prompt {tokens(prompt)}{after} q = {chances(right[strange.group])}, {strange.trials:,} drafts"
    table = comparison([f"token {token}" for token in range(VOCAB)], strange.counts, strange.chances)
    verdict.add(Finding(key, detail, (line,), table))
    return False


def _array(row: Callable[[Text], HostFloats]) -> HostFloats:
    return np.array([row(prefix) for prefix in PREFIXES], dtype=float)


def _following(counts: Counts, prefix: Text) -> HostFloats:
    """How often each token followed this beginning of a draft."""
    row = np.zeros(VOCAB)
    for text, times in counts.items():
        if len(text) > len(prefix) and text[: len(prefix)] == prefix:
            row[text[len(prefix)]] += times
    return row


def _q(prompt: Text, drafted: Text) -> HostFloats:
    return DRAFT.next_chances([*prompt, *drafted])


def _changed(change: Callable[[HostFloats], HostFloats]) -> Next:
    return lambda prompt, drafted: change(_q(prompt, drafted))


def _wrong_laws() -> Iterator[tuple[str, str, Next]]:
    yield "target_drafts", "", lambda prompt, drafted: TARGET.next_chances([*prompt, *drafted])
    yield "stuck_context", "", lambda prompt, drafted: _q(prompt, ())
    yield "forgotten_prompt", "", lambda prompt, drafted: DRAFT.next_chances([*prompt, *drafted][-1:])
    yield "forgotten_prompt", "", lambda prompt, drafted: DRAFT.next_chances(drafted[-1:] or prompt)
    yield "first_row", "", lambda prompt, drafted: DRAFT.next_chances(prompt[:1])
    yield "softmax_draft", "", _changed(softmax)
    for temperature in TEMPERATURES:
        detail = f"it fits a temperature of about {temperature:g}"
        yield "draft_temperature", detail, _changed(partial(tempered, temperature=temperature))
    yield "uniform", "", lambda prompt, drafted: np.full(VOCAB, 1 / VOCAB)
    for token in range(VOCAB):
        yield "discarded", f"token {token} never comes", _changed(partial(_without, token=token))
    for threshold in np.arange(0.1, 0.51, 0.05):
        detail = f"tokens with q below about {threshold:.2f} never come"
        yield "discarded", detail, _changed(partial(_likely, threshold=float(threshold)))


def _without(q: HostFloats, token: int) -> HostFloats:
    return normalised(q * (np.arange(VOCAB) != token))


def _likely(q: HostFloats, threshold: float) -> HostFloats:
    return normalised(q * (q >= min(threshold, q.max())))


def _is_greedy(told: Message) -> bool:
    only = texts.only_text(texts.counts_of(told))
    return only is not None and only == texts.greedy_text(tuple(told["prompt"]), len(only))


def _judge_texts(verdict: Verdict, observed: Observed) -> None:
    """Add what the texts of generate say. Where drafts are wrong, texts hardly can be right."""
    wrong_drafts = bool(verdict.findings)
    for message in observed.of("texts"):
        told = message["told"]
        prompt: Text = tuple(told["prompt"])
        judged = texts.judge_form(verdict, told)
        counts = texts.counts_of(told)
        verdict.trials.append(f"{int(sum(counts.values())):,} texts of generate")
        only = texts.only_text(counts)
        if not judged:
            continue
        if only is not None:
            if _is_greedy(told):
                verdict.notes.append("generate is greedy: right at temperature 0, and nothing else was checked")
            else:
                verdict.add(Finding("constant", example=(f"generate gives {tokens(only)} every time",)))
            continue
        found = texts.strange_text(verdict, counts, prompt, LOOKAHEAD)
        if found is not None:
            if wrong_drafts:
                verdict.notes.append("the texts of generate are wrong as well, maybe because of the drafts")
                continue
            key, detail = texts.explained(counts, prompt, LOOKAHEAD) or ("unknown", "")
            lines, table = texts.example_of(prompt, *found)
            verdict.add(Finding(key, f"in generate{': ' + detail if detail else ''}", lines, table))
    for message in observed.of("calls"):
        _note_calls(verdict, message)
    texts.judge_stop(verdict, observed.of("stop"), STOP_TOKEN)
    texts.note_no_stop(verdict, observed.of("no_stop"))


def _note_calls(verdict: Verdict, message: Message) -> None:
    """Say what speculation gains where every draft token is accepted."""
    tokens_, calls, lookahead = int(message["tokens"]), float(message["calls"]), int(message["lookahead"])
    if verdict.findings:
        return
    if calls >= tokens_ - 1:
        verdict.notes.append(f"nothing is gained: the target is called {calls:.0f} times for {tokens_} tokens")
    elif calls >= tokens_ / lookahead - 0.5:
        with_bonus = -(-tokens_ // (lookahead + 1))
        verdict.notes.append(
            f"no bonus token in generate: with every draft token accepted, {tokens_} tokens take {calls:.0f} calls of "
            f"the target; with the bonus {with_bonus}"
        )
