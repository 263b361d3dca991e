"""How tokens are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from outrider.cli.options.group import option
from outrider.errors import SettingError
from outrider.maths.sampling import SamplingParams

SAMPLING = "Sampling"


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """The settings of SamplingParams, as flags."""

    temp: Annotated[float, option("--temp --temperature", "X", "0 is greedy.", SAMPLING)] = 0.0
    top_k: Annotated[int, option("--top-k", "N", "Keep the N most probable tokens; 0 keeps all.", SAMPLING)] = 0
    top_p: Annotated[float, option("--top-p", "X", "Keep the most probable tokens up to this mass.", SAMPLING)] = 1.0
    min_p: Annotated[float, option("--min-p", "X", "Drop tokens below this share of the likeliest.", SAMPLING)] = 0.0
    repetition_penalty: Annotated[
        float, option("--repetition-penalty --repeat-penalty", "X", "Above 1 discourages repetition.", SAMPLING)
    ] = 1.0
    presence_penalty: Annotated[
        float, option("--presence-penalty", "X", "Taken off the logits of tokens already emitted.", SAMPLING)
    ] = 0.0
    frequency_penalty: Annotated[
        float, option("--frequency-penalty", "X", "The same, once per occurrence.", SAMPLING)
    ] = 0.0
    logit_bias: Annotated[
        list[str] | None,
        option("--logit-bias", "TOKEN=X", "Added to the logit of a token id. Repeatable.", SAMPLING),
    ] = None
    seed: Annotated[
        int | None,
        option(
            "--seed",
            "N",
            "Makes sampling reproducible: with --rule coupled whatever drafts; with the other rules under the same "
            "drafter and --num-draft-tokens N.",
            SAMPLING,
        ),
    ] = None

    def params(self) -> SamplingParams:
        """The settings.

        Raises:
            SettingError: one of them is out of its range.
        """
        return SamplingParams(
            temperature=self.temp,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=_parse_bias(self.logit_bias or ()),
            seed=self.seed,
        )


def _parse_bias(pairs: Sequence[str]) -> dict[int, float]:
    bias = {}
    for pair in pairs:
        token, _, value = pair.partition("=")
        try:
            bias[int(token)] = float(value)
        except ValueError as error:
            raise SettingError(f"--logit-bias is {pair!r}: it must be TOKEN=BIAS, such as 42=-1.5") from error
    return bias
