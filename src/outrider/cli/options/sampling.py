"""How tokens are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from outrider.cli.options.group import option
from outrider.cli.terminal import messages
from outrider.errors import SettingError
from outrider.maths.sampling import SamplingParams
from outrider.runtimes.files.recommended import GREEDY, TRUNCATION, Recommended, recommended

SAMPLING = "Sampling"
GenerationConfig = Literal["auto", "none"]


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """The settings of SamplingParams, as flags."""

    temp: Annotated[
        float | None,
        option("--temp --temperature", "X", "0 is greedy. Default: what the model's makers say, or 0.", SAMPLING),
    ] = None
    top_k: Annotated[int | None, option("--top-k", "N", "Keep the N most probable tokens; 0 keeps all.", SAMPLING)] = (
        None
    )
    top_p: Annotated[
        float | None, option("--top-p", "X", "Keep the most probable tokens up to this mass.", SAMPLING)
    ] = None
    min_p: Annotated[
        float | None, option("--min-p", "X", "Drop tokens below this share of the likeliest.", SAMPLING)
    ] = None
    repetition_penalty: Annotated[
        float | None, option("--repetition-penalty --repeat-penalty", "X", "Above 1 discourages repetition.", SAMPLING)
    ] = None
    presence_penalty: Annotated[
        float | None, option("--presence-penalty", "X", "Taken off the logits of tokens already emitted.", SAMPLING)
    ] = None
    frequency_penalty: Annotated[
        float | None, option("--frequency-penalty", "X", "The same, once per occurrence.", SAMPLING)
    ] = None
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

    generation_config: Annotated[
        GenerationConfig,
        option(
            "--generation-config",
            "auto|none",
            "auto: what is not given here is taken from the model's generation_config.json or GGUF file; none: it is "
            "greedy.",
            SAMPLING,
        ),
    ] = "auto"

    def params(self, model: str | None = None) -> SamplingParams:
        """The settings; says in a line which of them are the model's own.

        Args:
            model: whose recommended settings hold where none are given; None for none.

        Raises:
            SettingError: one of them is out of its range.
            ModelError: the model's file of settings is broken.
        """
        bias = _parse_bias(self.logit_bias or ())
        flags = {
            "temperature": self.temp,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
        }
        given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
        if bias:
            given["logit_bias"] = bias
        own = Recommended()
        if model is not None and self.generation_config == "auto":
            own = recommended(model)
        taken = {name: value for name, value in own.settings.items() if name not in given}
        if given.get("temperature") == GREEDY:
            taken = {name: value for name, value in taken.items() if name not in TRUNCATION}
        if taken or own.unsupported:
            messages().print(_said(taken, own), style="dim")
        return SamplingParams(**({"temperature": GREEDY} | taken | given), seed=self.seed)


def _said(taken: dict[str, Any], own: Recommended) -> str:
    """One line about what comes from the model's file."""
    parts = []
    if taken:
        shown = [name if name == "logit_bias" else f"{name} {value}" for name, value in taken.items()]
        parts.append(f"{', '.join(shown)} from {own.source} (--generation-config none ignores it)")
    if own.unsupported:
        parts.append(f"{', '.join(own.unsupported)} in {'it' if taken else own.source} is not supported")
    return " · ".join(parts)


def _parse_bias(pairs: Sequence[str]) -> dict[int, float]:
    bias = {}
    for pair in pairs:
        token, _, value = pair.partition("=")
        try:
            bias[int(token)] = float(value)
        except ValueError as error:
            raise SettingError(f"--logit-bias is {pair!r}: it must be TOKEN=BIAS, such as 42=-1.5") from error
    return bias
