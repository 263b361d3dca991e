"""From prompts to requests: everything that a result depends on is settled before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from outrider.errors import InputError, SettingError
from outrider.jobs.fingerprint import derived_seed, fingerprint
from outrider.maths.rules import RuleName
from outrider.prompts.chat import Chat
from outrider.prompts.files import FilePrompt, Id
from outrider.prompts.request import PreparedRequest, drawn_seed, prepare_request
from outrider.prompts.tokens import is_conversation
from outrider.runtimes.base import Model
from outrider.structured import Grammar


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
        logprobs: whether results report log probabilities; a number k also those of the k most probable tokens.
        structured: what the answers may look like.
    """

    model: str
    rule: RuleName = "token"
    seed: int | None = None
    system_prompt: str | None = None
    use_chat_template: bool = True
    predicted: str = ""
    logprobs: bool | int = False
    structured: Grammar | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt, ready to be decoded, or the reason why it cannot be.

    Attributes:
        request: an InputError where the prompt cannot be decoded.
        seed: that of the result; None where nothing is drawn.
    """

    id: Id
    fingerprint: str
    request: PreparedRequest | InputError
    seed: int | None


def prepare(prompts: Sequence[FilePrompt], target: Model, common: Common) -> list[Job]:
    """A job for each prompt.

    Raises:
        SettingError: something needs a tokenizer or a chat template, and there is none.
    """
    base = common.seed if common.seed is not None else drawn_seed()
    tokenizer = target.tokenizer
    if tokenizer is None:
        _require_no_text(prompts, target, common)
    predicted = () if tokenizer is None or not common.predicted else tuple(tokenizer.encode(common.predicted))
    model = [common.model, target.traits.vocab_size, sorted(target.traits.stop_token_ids)]
    if tokenizer is not None:
        model.append(tokenizer.fingerprint)
    return [_job(prompt, target, common, base, predicted, model) for prompt in prompts]


def _require_no_text(prompts: Sequence[FilePrompt], target: Model, common: Common) -> None:
    """Without a tokenizer a run of text has nothing to decode: one refusal, instead of one for each prompt."""
    if any(prompt.request.stop for prompt in prompts):
        raise SettingError(f"stop strings need a tokenizer and model {target.name} has none: leave them out")
    if common.predicted:
        raise SettingError(f"expected text needs a tokenizer and model {target.name} has none: leave it out")
    for prompt in prompts:
        if isinstance(prompt.request.prompt, str) or is_conversation(prompt.request.prompt):
            raise SettingError(
                f"{prompt.place} is text and model {target.name} has no tokenizer beside it: "
                "give a model folder with tokenizer files, or tokens"
            )


def _job(
    prompt: FilePrompt, target: Model, common: Common, base: int, predicted: tuple[int, ...], model: Sequence[object]
) -> Job:
    asked = prompt.request
    seed = asked.sampling.seed if asked.sampling.seed is not None else derived_seed(base, prompt.id)
    chat = Chat(common.system_prompt, common.use_chat_template)
    request: PreparedRequest | InputError
    try:
        request = prepare_request(
            replace(
                asked,
                sampling=replace(asked.sampling, seed=seed),
                predicted=predicted,
                logprobs=common.logprobs,
                structured=common.structured,
            ),
            target,
            target.tokenizer,
            chat,
        )
    except InputError as error:
        request = error
        content: object = _as_given(prompt)
    except SettingError as error:
        raise SettingError(f"{prompt.place} cannot be decoded: {error}") from error
    else:
        content = request.prompt
    return Job(
        prompt.id,
        fingerprint(model, content, _settings(prompt, common)),
        request,
        None if asked.sampling.greedy else seed,
    )


def _as_given(prompt: FilePrompt) -> list[object]:
    """The prompt as the file has it: [text, messages, tokens], two of them empty."""
    given = prompt.request.prompt
    if isinstance(given, str):
        return [given, [], []]
    if is_conversation(given):
        return ["", [dict(message) for message in given], []]
    return ["", [], list(given)]


def _settings(prompt: FilePrompt, common: Common) -> list[object]:
    """What makes a result another one. What drafts, how far, and with how many others is not among it."""
    request = prompt.request
    if request.sampling.logits_processors:
        raise SettingError(
            "logits processors cannot be told apart by a results file: leave them out of jobs, or decode with an Engine"
        )
    sampling = asdict(request.sampling)
    del sampling["logits_processors"]
    sampling["logit_bias"] = sorted(request.sampling.logit_bias.items())
    if not request.sampling.greedy:
        sampling["rule"] = common.rule
        if sampling["seed"] is None and common.seed is not None:
            sampling["seed"] = ["derived from", common.seed]
    else:
        del sampling["seed"]
    grammar = [] if common.structured is None else [common.structured.text]
    return [request.max_tokens, request.stop, common.logprobs, sampling, *grammar]
