"""From prompts to requests: everything that a result depends on is settled before anything is decoded."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from outrider.engine.engine import check_prompt
from outrider.engine.request import Request
from outrider.errors import InputError, SettingError
from outrider.jobs.encoding import encode
from outrider.jobs.fingerprint import derived_seed, fingerprint
from outrider.jobs.prompts import Id, Prompt
from outrider.maths.rules import RuleName
from outrider.runtimes.base import Model


@dataclass(frozen=True, slots=True)
class Common:
    """What holds for every prompt of a run.

    Attributes:
        model: tells the target and its precision from others, for fingerprints.
        rule: token, block or coupled.
        seed: of the run; None draws one. Each prompt has a seed of its own, derived from it and the prompt's id.
        system_prompt: put before conversations that have none.
        use_chat_template: False takes text as it is.
        predicted: text expected in the answers, for drafters that copy from it.
        logprobs: whether results report log probabilities.
    """

    model: str
    rule: RuleName = "token"
    seed: int | None = None
    system_prompt: str | None = None
    use_chat_template: bool = True
    predicted: str = ""
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt, ready to be decoded, or the reason why it cannot be.

    Attributes:
        request: an InputError where the prompt cannot be decoded.
        seed: that of the result; None where nothing is drawn.
    """

    id: Id
    fingerprint: str
    request: Request | InputError
    seed: int | None


def prepare(prompts: Sequence[Prompt], target: Model, common: Common) -> list[Job]:
    """A job for each prompt.

    Raises:
        SettingError: something needs a tokenizer or a chat template, and there is none.
    """
    base = common.seed if common.seed is not None else secrets.randbits(63)
    tokenizer = target.tokenizer
    if tokenizer is None and any(prompt.stop for prompt in prompts):
        raise SettingError(f"stop strings need a tokenizer and model {target.name} has none: leave them out")
    if tokenizer is None and common.predicted:
        raise SettingError(f"expected text needs a tokenizer and model {target.name} has none: leave it out")
    predicted = () if tokenizer is None or not common.predicted else tuple(tokenizer.encode(common.predicted))
    model = [common.model, target.traits.vocab_size, sorted(target.traits.stop_token_ids)]
    if tokenizer is not None:
        model.append(tokenizer.fingerprint)
    return [_job(prompt, target, common, base, predicted, model) for prompt in prompts]


def _job(
    prompt: Prompt, target: Model, common: Common, base: int, predicted: tuple[int, ...], model: Sequence[object]
) -> Job:
    seed = prompt.sampling.seed if prompt.sampling.seed is not None else derived_seed(base, prompt.id)
    request: Request | InputError
    try:
        tokens = encode(prompt, target, common.system_prompt, common.use_chat_template)
        check_prompt(tokens, target, target.traits.context_length)
    except InputError as error:
        request = error
        content: object = [prompt.text, [dict(message) for message in prompt.messages], prompt.tokens]
    else:
        request = Request(
            prompt=tokens,
            max_tokens=prompt.max_tokens,
            sampling=replace(prompt.sampling, seed=seed),
            stop_token_ids=target.traits.stop_token_ids,
            stop=prompt.stop,
            predicted=predicted,
            logprobs=common.logprobs,
            tokenizer=target.tokenizer,
        )
        content = tokens
    return Job(
        prompt.id,
        fingerprint(model, content, _settings(prompt, common)),
        request,
        None if prompt.sampling.greedy else seed,
    )


def _settings(prompt: Prompt, common: Common) -> list[object]:
    """What makes a result another one. What drafts, how far, and with how many others is not among it."""
    sampling = asdict(prompt.sampling)
    sampling["logit_bias"] = sorted(prompt.sampling.logit_bias.items())
    if not prompt.sampling.greedy:
        sampling["rule"] = common.rule
        if sampling["seed"] is None and common.seed is not None:
            sampling["seed"] = ["derived from", common.seed]
    else:
        del sampling["seed"]
    return [prompt.max_tokens, prompt.stop, common.logprobs, sampling]
