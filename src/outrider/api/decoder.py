"""The classic interface for one text at a time: SpeculativeDecoder."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Unpack, overload

from outrider.api.course import draft_tokens
from outrider.api.desk import Desk
from outrider.api.stream import Generation, TokenStream
from outrider.drafters.base import Drafter
from outrider.drafters.loading import as_drafter, is_drafter_by_name
from outrider.drafters.model import ModelDrafter
from outrider.engine.engine import Engine
from outrider.engine.memory import widest_draft
from outrider.engine.record import Observer
from outrider.errors import SettingError
from outrider.lookahead import AdaptiveSpeculator, LookaheadPolicy, as_policy
from outrider.maths.budget import USUAL_DRAFT
from outrider.maths.rules import Rule, RuleName, rule_named
from outrider.maths.sampling import SamplingParams
from outrider.prompts.chat import as_conversation, encode
from outrider.prompts.request import PreparedRequest, Request, prepare_request
from outrider.prompts.settings import RequestSettings, SamplingSettings, request_of, sampling_of
from outrider.prompts.tokens import Message, Prompt, check_tokens
from outrider.runtimes.base import Model
from outrider.runtimes.loading import as_model, as_tokenizer

MOST_ROWS = 8  # samples of one prompt that are decoded at once
UNBOUNDED = 2**20  # samples that may wait


class SpeculativeDecoder:
    """Decodes a target model speculatively; the output has exactly the target's distribution.

    Args:
        draft_model: the drafter: an outrider Drafter, "lookup", "suffix", "suffix-tree" or "recycling", the folder or
            name of a draft head, or a model in any of the forms below. None decodes plainly.
        target_model: an outrider Model, a transformers or mlx-lm model, a path or name for `outrider.load`, or a
            stateless function from token ids to logits.
        lookahead: how many tokens to draft per round: a number, an AdaptiveSpeculator, a policy, or None for the one
            that promises most tokens per second (Goodput).
        rule: how drafts are verified: token, block or coupled.
        tokenizer: where the models come without one: of transformers, or an outrider Tokenizer.
        observer: called with a RoundRecord after every round; a TraceWriter, for example.

    Raises:
        VocabularyError: the models have different vocabularies.
        SettingError: an unknown rule, or a lookahead below 0.
        ModelError: a model cannot be found or used.
    """

    def __init__(
        self,
        draft_model: Any,
        target_model: Any,
        lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None = 4,
        *,
        rule: RuleName | Rule = "token",
        tokenizer: Any = None,
        observer: Observer | None = None,
    ) -> None:
        self.rule = rule_named(rule)
        self.lookahead = as_policy(lookahead)
        self.target: Model = as_model(target_model, tokenizer)
        is_drafter = draft_model is None or isinstance(draft_model, Drafter) or is_drafter_by_name(draft_model)
        self._draft_model = None if is_drafter else as_model(draft_model, tokenizer)
        self.drafter = as_drafter(draft_model if is_drafter else self._draft_model, self.target)
        self._lookahead_given = lookahead
        if lookahead is None:
            own = [] if self.drafter is None else [self.drafter]
            self.lookahead = as_policy(None, widest_draft(self.target, own, 1, None))
        self._warned = False
        self.tokenizer = as_tokenizer(tokenizer) if tokenizer is not None else self.target.tokenizer
        self._observer = observer
        self._desk: Desk | None = None

    def __repr__(self) -> str:
        return f"SpeculativeDecoder({self.drafter!r}, {self.target!r}, {self.lookahead!r}, rule {self.rule})"

    @overload
    def generate(self, prompt: Prompt, *, n: None = None, **settings: Unpack[RequestSettings]) -> Generation: ...

    @overload
    def generate(self, prompt: Prompt, *, n: int, **settings: Unpack[RequestSettings]) -> list[Generation]: ...

    def generate(
        self, prompt: Prompt, *, n: int | None = None, **settings: Unpack[RequestSettings]
    ) -> Generation | list[Generation]:
        """Continue a text.

        Args:
            prompt: text, token ids as a list or an array [tokens] or [1, tokens] of any library, or a conversation, a
                list of messages such as {"role": "user", "content": "..."}.
            n: how many samples to draw; None draws one, and a number gives a list. Sample i is drawn with seed + i.
            settings: max_tokens, stop, stop_token_ids, predicted, logprobs, detokenize, structured, tools
                (`RequestSettings` says what they are); sampling, or single settings by their names: temperature,
                top_p, seed ... as in SamplingParams.

        Raises:
            InputError: the prompt is empty, too long, or holds an unknown token.
            SettingError: a setting is out of its range.
            ModelError: the target produced a logit that is not a number.
        """
        request = request_of(prompt, settings)
        return self.start(request).generation() if n is None else self._samples(request, n)

    @overload
    def chat(
        self, messages: str | Sequence[Message], *, n: None = None, **settings: Unpack[RequestSettings]
    ) -> Generation: ...

    @overload
    def chat(
        self, messages: str | Sequence[Message], *, n: int, **settings: Unpack[RequestSettings]
    ) -> list[Generation]: ...

    def chat(
        self, messages: str | Sequence[Message], *, n: int | None = None, **settings: Unpack[RequestSettings]
    ) -> Generation | list[Generation]:
        """Answer a conversation, through the model's chat template.

        Args:
            messages: such as [{"role": "user", "content": "..."}], or the text of a single message of the user.
            n, settings: as for `generate`.

        Raises:
            SettingError: the model has no chat template; or as `generate`.
            InputError, ModelError: as `generate`.
        """
        return self.generate(as_conversation(messages), n=n, **settings)

    def stream(self, prompt: Prompt, **settings: Unpack[RequestSettings]) -> TokenStream:
        """Continue a text, token by token; takes what `generate` takes, and refuses what it refuses at once.

        Several streams may be open at once. A draft model drafts for all of them; a Drafter serves one at a time, so
        that the others are decoded plainly, and a warning says so.
        """
        return self.start(request_of(prompt, settings))

    def start(self, request: Request | PreparedRequest) -> TokenStream:
        """The same for a Request, or for one in the target's terms."""
        if isinstance(request, Request):
            request = prepare_request(request, self.target, self.tokenizer)
        return TokenStream(self._desk_for(request, 1), request)

    def draft_generation(
        self,
        prompt_tokens: Prompt,
        num_tokens: int,
        *,
        sampling: SamplingParams | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> list[int]:
        """The tokens that the drafter alone proposes after a prompt.

        Args:
            prompt_tokens: a list, or an array of any library.
            num_tokens: how many; a drafter that has no more to say gives fewer.
            sampling: default SamplingParams(), which samples at temperature 1, as verify_speculation expects.
            settings: single settings by their names.

        Raises:
            InputError: the prompt is empty, or num_tokens is negative.
            SettingError: there is no drafter, or it is busy with an open stream, or cannot draft alone.
        """
        if self.drafter is None:
            raise SettingError("draft_generation needs a drafter and this decoder has none: pass a draft_model")
        if self._desk is not None and not self._desk.engine.idle:
            raise SettingError(
                "a stream of this decoder is open and uses its drafter: finish or close the stream first"
            )
        prompt = encode(prompt_tokens, self.tokenizer, self.target.name)
        check_tokens(prompt, self.target, self.target.traits.context_length)
        self._desk = None  # the drafter is prepared for this alone, and again for the next text
        vocab_size = self.target.traits.vocab_size
        return draft_tokens(self.drafter, prompt, num_tokens, sampling_of(sampling, settings), self.rule, vocab_size)

    def _samples(self, request: Request, n: int) -> list[Generation]:
        requests = request.samples(n)
        prepared = prepare_request(request, self.target, self.tokenizer)
        desk = self._desk_for(prepared, min(n, MOST_ROWS))
        with ExitStack() as streams:
            opened = [
                streams.enter_context(TokenStream(desk, replace(prepared, sampling=_with_seed_of(prepared, each))))
                for each in requests
            ]
            return [stream.generation() for stream in opened]

    def _desk_for(self, request: PreparedRequest, rows: int) -> Desk:
        """The engine, opened again where the last one is too small; where it is busy, one beside it."""
        context = self.target.traits.context_length
        length = min(len(request.prompt) + request.max_tokens, context)
        capacity = min(context, 256 * -(-length // 256))
        desk = self._desk
        if desk is not None and desk.engine.capacity >= length and desk.free_rows >= rows:
            return desk
        if desk is not None and not desk.engine.idle:
            return self._open_beside(capacity, rows)
        self._desk = self._open(self.drafter, self.lookahead, capacity, rows)
        return self._desk

    def _open_beside(self, capacity: int, rows: int) -> Desk:
        """An engine for a text beside an open stream: drafters and policies serve one engine at a time."""
        given = self._lookahead_given
        if self._draft_model is not None and (given is None or isinstance(given, int)):
            policy = as_policy(given, self.lookahead.most or USUAL_DRAFT)
            policy.costs = self.lookahead.costs
            return self._open(ModelDrafter(self._draft_model), policy, capacity, rows)
        if self.drafter is not None and not self._warned:
            self._warned = True
            warnings.warn(
                "a stream of this decoder is open and has its drafter, so that this text is decoded plainly: finish or "
                "close the stream first, or use an Engine for several texts at once",
                RuntimeWarning,
                stacklevel=5,
            )
        return self._open(None, as_policy(0), capacity, rows)

    def _open(self, drafter: Drafter | None, lookahead: LookaheadPolicy, capacity: int, rows: int) -> Desk:
        return Desk(
            Engine(
                self.target,
                drafter,
                lookahead=lookahead,
                rule=self.rule,
                tokenizer=self.tokenizer,
                max_rows=rows,
                capacity=capacity,
                max_waiting=UNBOUNDED,
                observer=self._observer,
            )
        )


def _with_seed_of(prepared: PreparedRequest, request: Request) -> SamplingParams:
    return replace(prepared.sampling, seed=request.sampling.seed)
