"""Many outputs of one decoder, drawn side by side.

A draw is one text with a seed of its own. What a text holds depends on nothing but its seed, so that an engine of many
rows draws the same texts as a decoder that makes them one after the other, at less than half the cost
(test_a_decoder_draws_what_its_engine_draws_in_many_rows).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from exactness.statistics import THRESHOLD, Outcome, p_value
from outrider import Engine, Handle, Request, SamplingParams, SpeculativeDecoder
from outrider.prompts.request import prepare_request

ROWS = 32
CAPACITY = 64  # tokens of a row
# Shares of all draws after which a mistake may be found. Each look is one more test at THRESHOLD, and what it looks at
# are the first draws of the same sample, so that the last look is the test of all draws.
LOOKS = (1 / 24, 1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)


@dataclass
class Sample:
    """Outputs, and what became of the drafts."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    drafted: int = 0
    accepted: int = 0


class Draws:
    """The first `length` tokens of texts of up to `max_tokens` (default `length`), one seed each.

    A draft never reaches beyond the end of a text, so that a long lookahead needs texts longer than what is counted;
    these are cancelled once the tokens are there.

    Attributes:
        sample: all draws so far.
    """

    def __init__(
        self,
        decoder: SpeculativeDecoder,
        prompt: Sequence[int],
        length: int,
        sampling: SamplingParams,
        *,
        max_tokens: int | None = None,
        first_seed: int = 0,
    ) -> None:
        self.sample = Sample()
        self._engine = Engine(
            decoder.target,
            decoder.drafter,
            lookahead=decoder.lookahead,
            rule=decoder.rule,
            max_rows=ROWS,
            max_waiting=0,
            capacity=CAPACITY,
        )
        request = Request(
            tuple(prompt), length if max_tokens is None else max_tokens, sampling, frozenset(), detokenize=False
        )
        self._request = prepare_request(request, decoder.target, None)
        self._length = length
        self._next_seed = first_seed

    def more(self, draws: int) -> Sample:
        """Add texts to the sample, those of the next seeds."""
        end = self._next_seed + draws
        there: list[Handle] = []
        while there or self._next_seed < end:
            while self._engine.has_room and self._next_seed < end:
                sampling = replace(self._request.sampling, seed=self._next_seed)
                there.append(self._engine.submit(replace(self._request, sampling=sampling)))
                self._next_seed += 1
            self._engine.step()
            for text in there:
                if text.error is not None:
                    raise text.error
                if len(text.tokens) >= self._length:
                    text.cancel()
                    self._count(text)
                else:
                    assert text.finish_reason is None
            there = [text for text in there if not text.finish_reason]
        return self.sample

    def _count(self, text: Handle) -> None:
        self.sample.counts[tuple(text.tokens[: self._length])] += 1
        self.sample.drafted += text.stats.drafted
        self.sample.accepted += text.stats.accepted


def draw_outputs(
    decoder: SpeculativeDecoder,
    prompt: Sequence[int],
    length: int,
    sampling: SamplingParams,
    draws: int,
    *,
    max_tokens: int | None = None,
    first_seed: int = 0,
) -> Sample:
    """As many texts of a decoder: see Draws."""
    return Draws(decoder, prompt, length, sampling, max_tokens=max_tokens, first_seed=first_seed).more(draws)


def p_of_mistake(draws: Draws, expected: dict[Outcome, float], most: int) -> float:
    """The p-value of the first look at which a planted mistake is found; that of all `most` draws where it is not."""
    done = 0
    p = 1.0
    for share in LOOKS:
        draws.more(round(share * most) - done)
        done = round(share * most)
        p = p_value(draws.sample.counts, expected)
        if p < THRESHOLD:
            break
    return p
