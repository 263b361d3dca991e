"""From prompts to requests: what a result depends on is settled before its prompt is decoded.

A job knows its fingerprint without a model, so that a run with nothing left to do opens none. Its tokens are made when
it is its turn, so that a long file costs neither time nor memory at the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice

from outrider.errors import InputError, SettingError
from outrider.jobs.fingerprint import derived_seed, fingerprint
from outrider.maths.rules import RuleName
from outrider.prompts.chat import Chat
from outrider.prompts.files import FilePrompt, Id, Prompts, key_of
from outrider.prompts.request import PreparedRequest, drawn_seed, prepare_request
from outrider.prompts.tokens import is_conversation
from outrider.runtimes.base import Model
from outrider.structured import Grammar

BEGINNING = 1000  # jobs


@dataclass(frozen=True, slots=True)
class Common:
    """What holds for every prompt of a run.

    Attributes:
        model: tells the target, its files and its precision from others, for fingerprints.
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
    """One prompt, and what tells its result from others.

    Attributes:
        drawn_with: the seed, also where nothing is drawn.
    """

    prompt: FilePrompt
    fingerprint: str
    drawn_with: int

    @property
    def id(self) -> Id:
        return self.prompt.id

    @property
    def key(self) -> str:
        """The id, as it tells jobs apart."""
        return key_of(self.prompt.id)

    @property
    def seed(self) -> int | None:
        """That of the result; None where nothing is drawn."""
        return None if self.prompt.request.sampling.greedy else self.drawn_with


class Jobs:
    """The jobs of a run, made from its prompts each time they are iterated over.

    Iterating raises what iterating over the prompts raises, and SettingError for settings that a file of results cannot
    tell apart.
    """

    def __init__(self, prompts: Prompts, common: Common) -> None:
        self.common = common
        self._prompts = prompts
        self._base = common.seed if common.seed is not None else drawn_seed()

    def __len__(self) -> int:
        return len(self._prompts)

    def beginning(self) -> Iterator[Job]:
        """The first of them: enough to find out that a file is of another kind, before a model is opened."""
        return islice(self, BEGINNING)

    def __iter__(self) -> Iterator[Job]:
        for prompt in self._prompts:
            own = prompt.request.sampling.seed
            seed = own if own is not None else derived_seed(self._base, prompt.id)
            marks = fingerprint(self.common.model, _content(prompt, self.common), _settings(prompt, self.common))
            yield Job(prompt, marks, seed)


class Preparation:
    """Puts jobs into the terms of a target.

    Raises:
        SettingError: expected text needs a tokenizer, and the target has none.
    """

    def __init__(self, target: Model, common: Common) -> None:
        self._target, self._common = target, common
        self._chat = Chat(common.system_prompt, common.use_chat_template)
        tokenizer = target.tokenizer
        if tokenizer is None and common.predicted:
            raise SettingError(f"expected text needs a tokenizer and model {target.name} has none: leave it out")
        self._predicted = () if tokenizer is None or not common.predicted else tuple(tokenizer.encode(common.predicted))

    def request(self, job: Job) -> PreparedRequest | InputError:
        """The request, or the reason why its prompt alone cannot be decoded.

        Raises:
            SettingError: something needs a tokenizer or a chat template, and there is none.
        """
        prompt, target = job.prompt, self._target
        if target.tokenizer is None:
            _require_no_text(prompt, target)
        asked = replace(
            prompt.request,
            sampling=replace(prompt.request.sampling, seed=job.drawn_with),
            predicted=self._predicted,
            logprobs=self._common.logprobs,
            structured=self._common.structured,
        )
        try:
            return prepare_request(asked, target, target.tokenizer, self._chat)
        except InputError as error:
            return error
        except SettingError as error:
            raise SettingError(f"{prompt.place} cannot be decoded: {error}") from error


def _require_no_text(prompt: FilePrompt, target: Model) -> None:
    """Without a tokenizer a run of text has nothing to decode: one refusal, instead of one for each prompt."""
    if prompt.request.stop:
        raise SettingError(f"stop strings need a tokenizer and model {target.name} has none: leave them out")
    if isinstance(prompt.request.prompt, str) or is_conversation(prompt.request.prompt):
        raise SettingError(
            f"{prompt.place} is text and model {target.name} has no tokenizer beside it: "
            "give a model folder with tokenizer files, or tokens"
        )


def _content(prompt: FilePrompt, common: Common) -> list[object]:
    """What the target reads: the prompt as the file has it, and how text is put to the model."""
    given = prompt.request.prompt
    if isinstance(given, str):
        return ["text", given, common.system_prompt, common.use_chat_template]
    if is_conversation(given):
        return ["messages", [dict(message) for message in given], common.system_prompt, common.use_chat_template]
    return ["tokens", list(given)]


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
