"""Many outputs of one decoder, drawn side by side.

A draw is one text with a seed of its own. What a text holds depends on nothing but its seed, so that an engine of many
rows draws the same texts as a decoder that makes them one after the other, at less than half the cost
(test_a_decoder_draws_what_its_engine_draws_in_many_rows).

Where two decoders have to make the same text of a seed, texts are compared and not counted: `texts_of`. That is the
stronger statement. A mistake in one token of two hundred changes one of a few dozen texts for certain, and moves no
chi-square of a few thousand.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from exactness.statistics import Outcome, p_of_stages
from outrider import Engine, Handle, Request, SamplingParams, SpeculativeDecoder
from outrider.prompts.request import prepare_request
from outrider.runtimes.base import Model

ROWS = 32
CAPACITY = 64  # tokens of a row
TEXTS = 64  # that are compared one by one
LENGTH_OF_TEXTS = 20
# Shares of all draws after which a mistake may be found. Each look is one more test at THRESHOLD, and what it looks at
# are the first draws of the same sample. A sample that fits at a stage is given up, as it is without a mistake.
LOOKS = (1 / 24, 1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)


@dataclass
class Sample:
    """Outputs, and what became of the drafts.

    Attributes:
        texts: for each seed the tokens that are counted.
    """

    texts: dict[int, Outcome] = field(default_factory=dict)
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
        there: list[tuple[int, Handle]] = []
        while there or self._next_seed < end:
            while self._engine.has_room and self._next_seed < end:
                sampling = replace(self._request.sampling, seed=self._next_seed)
                there.append((self._next_seed, self._engine.submit(replace(self._request, sampling=sampling))))
                self._next_seed += 1
            self._engine.step()
            for seed, text in there:
                if text.error is not None:
                    raise text.error
                if len(text.tokens) >= self._length:
                    text.cancel()
                    self._count(seed, text)
                else:
                    assert text.finish_reason is None
            there = [(seed, text) for seed, text in there if not text.finish_reason]
        return self.sample

    def first(self, draws: int) -> Counter[Outcome]:
        """The counts of the first texts, so many at least."""
        return self.more(max(draws - self.sample.counts.total(), 0)).counts

    def _count(self, seed: int, text: Handle) -> None:
        self.sample.texts[seed] = tuple(text.tokens[: self._length])
        self.sample.counts[self.sample.texts[seed]] += 1
        self.sample.drafted += text.stats.drafted
        self.sample.accepted += text.stats.accepted


def texts_of(
    decoder: SpeculativeDecoder,
    prompt: Sequence[int],
    sampling: SamplingParams,
    *,
    texts: int = TEXTS,
    length: int = LENGTH_OF_TEXTS,
) -> Sample:
    """Whole texts, to be compared with those of another decoder, seed by seed."""
    return Draws(decoder, prompt, length, sampling).more(texts)


def plain_texts(target: Model, prompt: Sequence[int], sampling: SamplingParams, **how_many: int) -> dict[int, Outcome]:
    """What `coupled` makes of each seed without a drafter, and so with any."""
    return texts_of(SpeculativeDecoder(None, target, rule="coupled"), prompt, sampling, **how_many).texts


def p_of_output(draws: Draws, expected: dict[Outcome, float], most: int) -> float:
    """The p-value of a sample of `most` draws, drawn in stages."""
    return p_of_stages(draws.first, expected, most)


def p_of_mistake(draws: Draws, expected: dict[Outcome, float], most: int) -> float:
    """The p-value of the first look at which a planted mistake is found; that of the last stage where it is not."""
    return p_of_stages(draws.first, expected, most, LOOKS)
