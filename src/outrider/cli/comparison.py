"""`outrider generate --compare`: speculative and plain decoding of one prompt, in one run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

from outrider.api.decoder import SpeculativeDecoder
from outrider.api.stream import Generation
from outrider.check.against_plain import first_difference, logits_of
from outrider.cli.terminal import working
from outrider.prompts.request import PreparedRequest
from outrider.runtimes.backends import Dtype
from outrider.runtimes.base import Model

# Plainly and speculatively in turns, the order turned as well, so that a machine that speeds up or slows down in
# between favours neither.
TURNS = (False, True, True, False)
ROUNDING_OF_FLOAT32 = 1e-3  # in logits
ROUNDING_OF_LESS = 0.5


@dataclass(frozen=True, slots=True)
class Comparison:
    """Speculative and plain decoding of one prompt.

    Attributes:
        plain_tokens_per_second, speculative_tokens_per_second: medians, decoding alone.
        plain_seconds_prefill, speculative_seconds_prefill: medians, reading the prompt.
        ratio: of the speeds of decoding.
        comparable: whether the same tokens are to be expected (greedy, or the rule coupled).
        tokens: emitted speculatively.
        first_difference: the index of the first token that differs; None if all are the same, or need not be.
        margin: by how many logits the plain choice beats the other there; None where settings hide it.
    """

    plain_tokens_per_second: float
    speculative_tokens_per_second: float
    plain_seconds_prefill: float
    speculative_seconds_prefill: float
    ratio: float
    comparable: bool
    tokens: int
    first_difference: int | None
    margin: float | None

    def sentence(self, dtype: Dtype | None) -> str:
        """For people, with rich's markup."""
        ratio = (
            f"[bold]{self.ratio:.2f} times[/bold] as fast as plain decoding: "
            f"{self.speculative_tokens_per_second:.1f} against {self.plain_tokens_per_second:.1f} tokens/s "
            f"(prompt: {self.speculative_seconds_prefill:.2f} against {self.plain_seconds_prefill:.2f} s)"
        )
        if not self.comparable:
            return f"{ratio}; same distribution, another draw (--rule coupled gives the same text)"
        if self.first_difference is None:
            return f"{ratio}; [green]the same {self.tokens} tokens[/green]"
        where = f"[yellow]the tokens differ from number {self.first_difference + 1} on[/yellow]"
        return f"{ratio}; {where}, {self._why(dtype)}"

    def _why(self, dtype: Dtype | None) -> str:
        """What is known about the difference."""
        if self.margin is None:
            return "by rounding or by an error: outrider check tells which"
        apart = f"where the two choices are {abs(self.margin):.2g} apart in their logits"
        if dtype == "float32":
            small = abs(self.margin) < ROUNDING_OF_FLOAT32
            return f"{apart}: " + ("rounding" if small else "more than rounding explains, please report it")
        small = abs(self.margin) < ROUNDING_OF_LESS
        cause = "rounding" if small else "much for rounding"
        return f"{apart}: {cause}; --dtype float32 rounds least, and outrider check measures it"


def compare_with_plain(
    decoder: SpeculativeDecoder, target: Model, request: PreparedRequest, streamed: Generation
) -> Comparison:
    """Decode plainly and speculatively in turns.

    Args:
        request: what `streamed` was decoded from.
        streamed: a speculative run that has warmed both up; its tokens are those compared.
    """
    sampling = replace(request.sampling, seed=streamed.seed)
    again = replace(request, sampling=sampling)
    decoders = {False: SpeculativeDecoder(None, target, 0, rule=decoder.rule), True: decoder}
    runs: dict[bool, list[Generation]] = {False: [], True: []}
    with working("comparing with plain decoding") as say:
        for turn, speculative in enumerate(TURNS, start=1):
            say(f"comparing, turn {turn} of {len(TURNS)}: {'speculatively' if speculative else 'plainly'}")
            runs[speculative].append(decoders[speculative].start(again).generation())
    speeds = {which: median(run.stats.tokens_per_second for run in runs[which]) for which in runs}
    prefills = {which: median(run.stats.seconds_prefill for run in runs[which]) for which in runs}
    comparable = sampling.greedy or decoder.rule.shares_noise
    difference = None
    if comparable:
        difference = first_difference(logits_of(target), request.prompt, runs[False][0].tokens, streamed.tokens)
    # The margin is one of raw logits: where penalties or Gumbel noise are added to them it explains nothing.
    raw = sampling.greedy and not sampling.adjusts_logits
    return Comparison(
        plain_tokens_per_second=speeds[False],
        speculative_tokens_per_second=speeds[True],
        plain_seconds_prefill=prefills[False],
        speculative_seconds_prefill=prefills[True],
        ratio=speeds[True] / speeds[False],
        comparable=comparable,
        tokens=len(streamed.tokens),
        first_difference=None if difference is None else difference.place,
        margin=difference.margin if difference is not None and raw else None,
    )
