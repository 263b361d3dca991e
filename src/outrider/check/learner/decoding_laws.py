"""The law of whole texts, right and wrong, by enumeration.

A wrong decoder is a kernel at each position (what is drafted, accepted and drawn instead), a law of the bonus, and how
the tokens of a round are put behind one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from outrider.check.learner import kernels
from outrider.check.learner.kernels import (
    RIGHT,
    TEMPERATURES,
    Named,
    hot,
    normalised,
    overlap,
    ratio,
    residual,
    tempered,
)
from outrider.check.learner.tables import State, WholeText
from outrider.maths.arrays import HostFloats

Text = tuple[int, ...]
TextLaw = dict[Text, float]
Rounds = dict[State, list[tuple[Text, float]]]  # from a state, what a round emits, with its chance
# (p, q, p after each token) -> accepted [vocab], rejected and corrected [vocab, vocab]; together all mass.
Kernel = Callable[[HostFloats, HostFloats, HostFloats], tuple[HostFloats, HostFloats]]
# (p, q of the position before) -> [vocab], or None for no bonus.
Bonus = Callable[[HostFloats, HostFloats], HostFloats | None]
Drops = Callable[[HostFloats], np.ndarray[Any, np.dtype[np.bool_]]]  # q -> which tokens are dropped
Emission = Literal["all", "without the correction", "accepted tokens twice"]
DRAWS = 50_000  # of the laws that are sampled
_LISTED: dict[tuple[str, bytes, bytes], list[Named]] = {}


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder, right or wrong.

    Attributes:
        mistake, detail: as of a Law.
    """

    mistake: str
    detail: str
    kernel: Kernel
    bonus: Bonus = lambda p, q: p
    emission: Emission = "all"


def plain_law(model: WholeText, prompt: Sequence[int], length: int) -> TextLaw:
    """The law of plain decoding."""
    texts: TextLaw = {(): 1.0}
    for _ in range(length):
        texts = {
            (*text, token): chance * float(step)
            for text, chance in texts.items()
            for token, step in enumerate(model.next_chances([*prompt, *text]))
        }
    return texts


def decoded_law(
    decoder: Decoder,
    target: WholeText,
    draft: WholeText,
    prompt: Sequence[int],
    lookahead: int,
    length: int,
    rounds: Rounds | None = None,
) -> TextLaw:
    """The law of the first `length` tokens after the prompt. Mass may be missing where a decoder stands still.

    Args:
        rounds: of this decoder, lookahead and length, as far as they are known from other prompts; what is found is
            added.
    """
    rounds = {} if rounds is None else rounds
    steps: dict[State, tuple[HostFloats, HostFloats]] = {}
    open_texts: list[TextLaw] = [{} for _ in range(length)]
    open_texts[0][()] = 1.0
    finished: TextLaw = {}
    for reached in open_texts:
        for text, chance in reached.items():
            state = target.state([*prompt, *text])
            if state not in rounds:
                merged: TextLaw = {}
                for tokens, weight in _round(decoder, target, draft, state, lookahead, steps):
                    merged[tokens[:length]] = merged.get(tokens[:length], 0.0) + weight
                rounds[state] = list(merged.items())
            moving = sum(weight for tokens, weight in rounds[state] if tokens)
            for tokens, weight in rounds[state]:
                if tokens:
                    new = (*text, *tokens)[:length]
                    place = finished if len(new) == length else open_texts[len(new)]
                    place[new] = place.get(new, 0.0) + chance * weight / moving
    return finished


def _round(
    decoder: Decoder,
    target: WholeText,
    draft: WholeText,
    start: State,
    lookahead: int,
    steps: dict[State, tuple[HostFloats, HostFloats]],
) -> Iterator[tuple[Text, float]]:
    def walk(accepted: Text, state: State, chance: float, q_before: HostFloats | None) -> Iterator[tuple[Text, float]]:
        p, q = target.chances[state], draft.chances[state]
        if len(accepted) == lookahead:
            bonus = decoder.bonus(p, q if q_before is None else q_before)
            if bonus is None:
                yield _emitted(decoder.emission, accepted, None), chance
                return
            for token, step in enumerate(bonus):
                yield _emitted(decoder.emission, accepted, token), chance * float(step)
            return
        if state not in steps:
            afterwards = np.array([target.chances[target.after(state, token)] for token in range(len(p))])
            kept, instead = decoder.kernel(p, q, afterwards)
            steps[state] = kept, instead.sum(axis=0)
        kept, corrected_to = steps[state]
        for token, step in enumerate(corrected_to):
            if step > 0:
                corrected = None if decoder.emission == "without the correction" else token
                yield _emitted(decoder.emission, accepted, corrected), chance * float(step)
        for token, step in enumerate(kept):
            if step > 0:
                yield from walk((*accepted, token), target.after(state, token), chance * float(step), q)

    return walk((), start, 1.0, None)


def _emitted(emission: Emission, accepted: Text, token: int | None) -> Text:
    following = () if token is None else (token,)
    return (*accepted, *accepted, *following) if emission == "accepted tokens twice" else (*accepted, *following)


def right(p: HostFloats, q: HostFloats, afterwards: HostFloats) -> tuple[HostFloats, HostFloats]:
    """The kernel of the right algorithm."""
    return of_parts(q, ratio(p, q), residual(p, q))


def of_parts(drafted: HostFloats, accepted: HostFloats, corrected: HostFloats) -> tuple[HostFloats, HostFloats]:
    """A kernel's values from the laws of its three steps; `corrected` may depend on the rejected token."""
    return drafted * accepted, (drafted * (1 - accepted))[:, None] * np.broadcast_to(corrected, (len(drafted),) * 2)


def _listed(laws: Callable[[HostFloats, HostFloats], Iterator[Named]], p: HostFloats, q: HostFloats) -> list[Named]:
    """All of them, made once for each pair of distributions."""
    key = laws.__name__, p.tobytes(), q.tobytes()
    if key not in _LISTED:
        _LISTED[key] = list(laws(p, q))
    return _LISTED[key]


def _acceptance(number: int) -> Kernel:
    def kernel(p: HostFloats, q: HostFloats, afterwards: HostFloats) -> tuple[HostFloats, HostFloats]:
        mistake, detail, accepted = _listed(kernels.acceptances, p, q)[number]
        return of_parts(q, accepted, kernels.partner(mistake, p, q, _temperature_in(detail)))

    return kernel


def _temperature_in(detail: str) -> float:
    words = detail.split()
    return float(words[-1]) if "temperature" in words else 1.0


def _correction(number: int) -> Kernel:
    def kernel(p: HostFloats, q: HostFloats, afterwards: HostFloats) -> tuple[HostFloats, HostFloats]:
        return of_parts(q, ratio(p, q), _listed(kernels.corrections, p, q)[number][2][:, :-1])

    return kernel


def _drafted(draft: Callable[[HostFloats], HostFloats]) -> Kernel:
    """Drafts come from another law than the q that judges them."""
    return lambda p, q, afterwards: of_parts(draft(q), ratio(p, q), residual(p, q))


def _judged_one_late(p: HostFloats, q: HostFloats, afterwards: HostFloats) -> tuple[HostFloats, HostFloats]:
    """The target's row after the draft token judges it."""
    accepted = np.array([min(1.0, afterwards[token, token] / q[token]) for token in range(len(q))])
    return of_parts(q, accepted, np.array([residual(row, q) for row in afterwards]))


def _dropped(drops: Drops) -> Kernel:
    """Drawn tokens are looked at and dropped, with everything after them; the target's own token comes instead."""

    def kernel(p: HostFloats, q: HostFloats, afterwards: HostFloats) -> tuple[HostFloats, HostFloats]:
        dropped = drops(q)
        kept, instead = of_parts(q * ~dropped, ratio(p, q), residual(p, q))
        return kept, instead + (q * dropped)[:, None] * p[None, :]

    return kernel


def _without(drops: Drops) -> Callable[[HostFloats], HostFloats]:
    """q where dropped tokens are drawn again."""
    return lambda q: normalised(q * ~drops(q))


def _drops() -> Iterator[tuple[str, Drops]]:
    for token in range(3):
        yield f"token {token}", lambda q, token=token: np.arange(len(q)) == token  # type: ignore[misc]
    for threshold in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5):
        # Not where nothing would be left.
        yield f"tokens with q below about {threshold:g}", lambda q, t=threshold: q < min(t, q.max())  # type: ignore[misc]


def _draft_uniform_accepts(p: HostFloats, q: HostFloats, afterwards: HostFloats) -> tuple[HostFloats, HostFloats]:
    """The uniform that drew the draft token by its cumulative sum also decides about it."""
    ends = np.cumsum(q)
    kept = np.maximum(np.minimum(ends, ratio(p, q)) - (ends - q), 0)
    return kept, (q - kept)[:, None] * residual(p, q)[None, :]


def _draft_uniform_corrects(p: HostFloats, q: HostFloats, afterwards: HostFloats) -> tuple[HostFloats, HostFloats]:
    """The uniform that drew the draft token by its cumulative sum also draws the correction."""
    ends = np.cumsum(q)
    drawn = normalised(overlap((ends - q)[:, None], ends[:, None], residual(p, q)))
    return of_parts(q, ratio(p, q), drawn)


def _draft_gumbel_corrects(p: HostFloats, q: HostFloats, afterwards: HostFloats) -> tuple[HostFloats, HostFloats]:
    """The Gumbel noise that drew the draft token also draws the correction. Sampled, not enumerated."""
    noise = np.random.default_rng(0).gumbel(size=(DRAWS, len(q)))
    with np.errstate(divide="ignore"):
        drafts, others = (np.log(q) + noise).argmax(axis=1), (np.log(residual(p, q)) + noise).argmax(axis=1)
    pairs = np.zeros((len(q), len(q)))
    np.add.at(pairs, (drafts, others), 1 / DRAWS)
    return of_parts(q, ratio(p, q), normalised(pairs))


def wrong_decoders(target: WholeText) -> Iterator[Decoder]:
    """Every known mistake that shows in whole texts, the more common ones first."""
    p, q = target.chances[0, 0], target.chances[1, 1]  # only to list the names
    yield Decoder("draft_unverified", "", lambda p, q, _: of_parts(q, np.ones(len(q)), q), lambda p, q: q)
    for number, (mistake, detail, _) in enumerate(kernels.acceptances(p, q)):
        if mistake != RIGHT:
            yield Decoder(mistake, detail, _acceptance(number))
    for number, (mistake, detail, _) in enumerate(kernels.corrections(p, q)):
        if mistake != RIGHT:
            yield Decoder(mistake, detail, _correction(number))
    yield Decoder("greedy_draft", "", _drafted(lambda q: hot(int(q.argmax()), len(q))))
    for temperature in TEMPERATURES:
        detail = f"drafts fit a temperature of about {temperature:g}"
        yield Decoder("draft_temperature", detail, _drafted(lambda q, t=temperature: tempered(q, t)))  # type: ignore[misc]
    yield Decoder("row_shift", "", _judged_one_late)
    for detail, drops in _drops():
        yield Decoder("discarded", f"as if {detail} were dropped once drawn", _dropped(drops))
        yield Decoder("discarded", f"as if {detail} were drawn again", _drafted(_without(drops)))
    yield Decoder("draft_noise", "it decides about acceptance", _draft_uniform_accepts)
    yield Decoder("draft_noise", "it draws the correction", _draft_uniform_corrects)
    yield Decoder("draft_noise", "it draws the correction", _draft_gumbel_corrects)
    yield Decoder("correction_lost", "", right, emission="without the correction")
    yield Decoder("accepted_twice", "", right, emission="accepted tokens twice")
    yield Decoder("bonus_from_draft", "", right, lambda p, q: q)
    yield Decoder("bonus_residual", "", right, residual)
    yield Decoder("bonus_greedy", "", right, lambda p, q: hot(int(p.argmax()), len(p)))
