"""The classic interface: SpeculativeDecoder, verify_speculation and their companions."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.drafters.loading import as_drafter
from outrider.engine.engine import Engine
from outrider.engine.record import Observer
from outrider.engine.request import FinishReason, TokenEvent
from outrider.engine.sequence import ActiveSequence
from outrider.engine.statistics import Statistics
from outrider.errors import InputError, SettingError, VocabularyError
from outrider.lookahead import AdaptiveSpeculator, LookaheadPolicy, as_policy
from outrider.maths.arrays import float32
from outrider.maths.budget import Budget
from outrider.maths.distributions import AllAtOnce
from outrider.maths.draft import ROOT, Draft
from outrider.maths.noise import RoundNoise
from outrider.maths.rules import Rule, RuleName, follow, rule_named
from outrider.maths.sampling import SamplingParams, check_finite, distribution, most_probable
from outrider.prompts.chat import encode
from outrider.prompts.request import PreparedRequest, Request, drawn_seed, prepare_request
from outrider.prompts.tokens import check_tokens, token_list
from outrider.runtimes.base import Model
from outrider.runtimes.loading import as_model, as_tokenizer


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished text.

    Attributes:
        tokens: the emitted tokens, a stop token included, the prompt left out.
        text: what they say, without a stop string or stop token; empty where there is no tokenizer.
        finish_reason: stop or length.
        stats: what speculation did.
        logprobs: the target's log probability of each token, before any sampling setting; None if not asked for.
        seed: reproduces the text.
    """

    tokens: list[int]
    text: str
    finish_reason: FinishReason
    stats: Statistics
    logprobs: list[float] | None
    seed: int


class SpeculativeDecoder:
    """Decodes a target model speculatively; the output has exactly the target's distribution.

    Args:
        draft_model: the drafter: an outrider Drafter, or a model in any of the forms below. None decodes plainly.
        target_model: an outrider Model, a transformers model, a path or name for `outrider.load`, or a stateless
            function from token ids to logits.
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
        self.drafter = as_drafter(draft_model, self.target, tokenizer)
        self.tokenizer = as_tokenizer(tokenizer) if tokenizer is not None else self.target.tokenizer
        self._observer = observer
        self._engine: Engine | None = None

    def generate(
        self,
        prompt: str | Sequence[int] | Any,
        *,
        max_tokens: int = 100,
        sampling: SamplingParams | None = None,
        stop: str | Iterable[str] = (),
        stop_token_ids: Iterable[int] | None = None,
        predicted: str | Sequence[int] = (),
        logprobs: bool = False,
    ) -> Generation:
        """Continue a text.

        Args:
            prompt: text, or token ids as a list or an array [tokens] or [1, tokens] of any library.
            max_tokens: the most tokens to emit; fewer where the model's context ends.
            sampling: default SamplingParams(), which samples at temperature 1.
            stop: strings that end the text; they are left out of it.
            stop_token_ids: tokens that end the text; default the target's own.
            predicted: text or token ids that you expect in the output, for drafters that copy from it.
            logprobs: report the target's log probability of every token.

        Raises:
            InputError: the prompt is empty, too long, or holds an unknown token.
            SettingError: a setting is out of its range.
            ModelError: the target produced a logit that is not a number.
        """
        engine, sequence = self._start(prompt, max_tokens, sampling, stop, stop_token_ids, predicted, logprobs)
        events = list(_run(engine, sequence))
        assert sequence.finish_reason is not None
        return Generation(
            tokens=list(sequence.output),
            text="".join(event.text for event in events),
            finish_reason=sequence.finish_reason,
            stats=sequence.statistics,
            logprobs=[event.logprob for event in events if event.logprob is not None] if logprobs else None,
            seed=sequence.seed,
        )

    def stream(
        self,
        prompt: str | Sequence[int] | Any,
        *,
        max_tokens: int = 100,
        sampling: SamplingParams | None = None,
        stop: str | Iterable[str] = (),
        stop_token_ids: Iterable[int] | None = None,
        predicted: str | Sequence[int] = (),
        logprobs: bool = False,
    ) -> TokenStream:
        """Continue a text, token by token; takes what `generate` takes, and refuses what it refuses at once.

        While a stream is open, other texts of this decoder are decoded plainly; an Engine speculates for several.
        """
        return TokenStream(*self._start(prompt, max_tokens, sampling, stop, stop_token_ids, predicted, logprobs))

    def draft_generation(
        self, prompt_tokens: Sequence[int] | Any, num_tokens: int, *, sampling: SamplingParams | None = None
    ) -> list[int]:
        """The tokens that the drafter alone proposes after a prompt.

        Args:
            prompt_tokens: a list, or an array of any library.
            num_tokens: how many; a drafter that has no more to say gives fewer.
            sampling: default SamplingParams(), which samples at temperature 1, as verify_speculation expects.

        Raises:
            InputError: the prompt is empty, or num_tokens is negative.
            SettingError: there is no drafter, or it is busy with an open stream.
        """
        if self.drafter is None:
            raise SettingError("draft_generation needs a drafter and this decoder has none: pass a draft_model")
        if num_tokens < 0:
            raise InputError(f"num_tokens is {num_tokens}: it must be at least 0")
        if self._engine is not None and not self._engine.idle:
            raise SettingError(
                "a stream of this decoder is open and uses its drafter: finish or close the stream first"
            )
        prompt = encode(prompt_tokens, self.tokenizer, self.target.name)
        check_tokens(prompt, self.target, self.target.traits.context_length)
        sampling = sampling or SamplingParams()
        seed = drawn_seed() if sampling.seed is None else sampling.seed
        request = PreparedRequest(prompt, max(num_tokens, 1), sampling)
        sequence = ActiveSequence(0, request, len(prompt) + num_tokens, self.rule.shares_noise, seed)
        self._engine = None  # the drafter is prepared anew here, and again for the next text
        self.drafter.prepare(1, len(prompt) + num_tokens, self.target.traits.vocab_size)
        draft = self.drafter.propose([sequence], [Budget(num_tokens, num_tokens)])[0]
        self.drafter.forget(sequence)
        return [draft.tokens[node] for node in _chain_within(draft)]

    def _start(
        self,
        prompt: str | Sequence[int] | Any,
        max_tokens: int,
        sampling: SamplingParams | None,
        stop: str | Iterable[str],
        stop_token_ids: Iterable[int] | None,
        predicted: str | Sequence[int],
        logprobs: bool,
    ) -> tuple[Engine, ActiveSequence]:
        asked = Request(
            prompt,
            max_tokens,
            sampling or SamplingParams(),
            stop_token_ids=None if stop_token_ids is None else frozenset(stop_token_ids),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            predicted=predicted if isinstance(predicted, str) else tuple(token_list(predicted)),
            logprobs=logprobs,
        )
        request = prepare_request(asked, self.target, self.tokenizer)
        engine = self._engine_for(len(request.prompt) + max_tokens)
        return engine, engine.submit(request)

    def _engine_for(self, length: int) -> Engine:
        """The engine, opened anew where the last one is too small; where it is busy, one for this text alone."""
        length = min(length, self.target.traits.context_length)
        capacity = min(self.target.traits.context_length, 256 * -(-length // 256))
        settings: dict[str, Any] = {
            "rule": self.rule,
            "tokenizer": self.tokenizer,
            "max_rows": 1,
            "capacity": capacity,
            "observer": self._observer,
        }
        if self._engine is not None and not self._engine.idle:
            # A drafter serves one engine at a time.
            return Engine(self.target, None, lookahead=0, **settings)
        if self._engine is None or self._engine.capacity < length:
            self._engine = Engine(self.target, self.drafter, lookahead=self.lookahead, **settings)
        return self._engine


class TokenStream:
    """An iterator of token events; closing it, or leaving it, ends the text.

    Attributes:
        stats: up to date after every event.
    """

    def __init__(self, engine: Engine, sequence: ActiveSequence) -> None:
        self._engine = engine
        self._sequence = sequence
        self._events = _run(engine, sequence)

    def __iter__(self) -> TokenStream:
        return self

    def __next__(self) -> TokenEvent:
        return next(self._events)

    @property
    def stats(self) -> Statistics:
        return self._sequence.statistics

    @property
    def seed(self) -> int:
        return self._sequence.seed

    def close(self) -> None:
        self._events.close()
        self._engine.cancel(self._sequence)  # a generator that was never started does not clean up

    def __del__(self) -> None:
        self.close()


def _run(engine: Engine, sequence: ActiveSequence) -> Generator[TokenEvent, None, None]:
    """Rounds until the only sequence of the engine is finished."""
    try:
        while not sequence.finished:
            yield from engine.step()
    finally:
        engine.cancel(sequence)
    if sequence.error is not None:
        raise sequence.error


def _chain_within(draft: Draft) -> Sequence[int]:
    """The nodes of one path of a draft: the longest, or, where tokens were drawn, that of the first draws.

    The longest path is chosen by what was drawn: its tokens do not have the distribution q.
    """
    if draft.q is None:
        return draft.path(max(range(len(draft)), key=draft.depths.__getitem__, default=ROOT))
    path: list[int] = []
    while children := draft.children(path[-1] if path else ROOT):
        path.append(children[0])
    return path


def verify_speculation(
    draft_tokens: Sequence[int] | Any,
    target_logits: Any,
    draft_logits: Any,
    *,
    temperature: float = 1.0,
    rule: RuleName | Rule = "token",
    seed: int | None = None,
) -> tuple[int, list[int]]:
    """Verify a chain of draft tokens: arXiv 2211.17192, algorithm 1.

    The emitted tokens have the target's distribution if the draft tokens were sampled from softmax(draft_logits /
    temperature), one after the other, with noise that has nothing to do with `seed` (under the rule `coupled`: however
    they came about). At temperature 0 a token is accepted where it is the target's most probable one.

    Args:
        draft_tokens: k token ids: a list, or an array of any library.
        target_logits: [k + 1, vocab], or [k, vocab] if there shall be no bonus token; NumPy, PyTorch or MLX. Row i
            predicts draft token i.
        draft_logits: [k, vocab], of any of the three; None if the draft tokens were chosen deterministically.
        temperature: of both models; 0 is greedy.
        rule: token, block or coupled.
        seed: for reproducible draws; None draws fresh ones.

    Returns:
        (num_accepted, corrected_tokens): the accepted draft tokens followed by the correction, or by the bonus if all
        were accepted and target_logits has a row for it.

    Raises:
        InputError: shapes that do not fit, or a token outside the vocabulary.
        VocabularyError: target and draft logits differ in width.
        ModelError: a logit is not a finite number.
        SettingError: an unknown rule, a temperature below 0.
    """
    rule = rule_named(rule)
    sampling = SamplingParams(temperature=temperature, seed=seed)
    tokens = tuple(token_list(draft_tokens))
    target = _two_axes(float32(target_logits), "target_logits")
    width = target.shape[-1]
    if target.shape[0] not in (len(tokens), len(tokens) + 1) or target.shape[0] == 0:
        raise InputError(
            f"target_logits has {target.shape[0]} rows for {len(tokens)} draft tokens: give {len(tokens) + 1} (the "
            f"last for the bonus) or {len(tokens)}"
        )
    bad = next((token for token in tokens if not 0 <= token < width), None)
    if bad is not None:
        raise InputError(f"draft token {bad} is outside the vocabulary of {width}")
    draft_rows = None
    if draft_logits is not None and tokens:
        draft_rows = _two_axes(float32(draft_logits, like=target), "draft_logits")
        if draft_rows.shape[0] != len(tokens):
            raise InputError(
                f"draft_logits has {draft_rows.shape[0]} rows for {len(tokens)} draft tokens: give one each"
            )
        if draft_rows.shape[-1] != width:
            raise VocabularyError(
                f"draft_logits are {draft_rows.shape[-1]} wide and target_logits {width}: both models must share one "
                "vocabulary"
            )
    if sampling.greedy:
        if draft_rows is not None:
            check_finite(draft_rows)
        verdict = follow(Draft(tokens), most_probable(target).tolist())
    else:
        q = None if draft_rows is None else distribution(draft_rows, sampling)
        p = AllAtOnce(distribution(target, sampling))
        noise = RoundNoise(drawn_seed() if seed is None else seed, 0, rule.shares_noise)
        verdict = rule.judge(Draft(tokens, q=q), p, noise)
    following = [] if verdict.token is None else [verdict.token]
    return verdict.accepted, [*(tokens[node] for node in verdict.path), *following]


def _two_axes(logits: Any, name: str) -> Any:
    if logits.ndim == 3 and logits.shape[0] == 1:
        logits = logits[0]
    if logits.ndim != 2:
        raise InputError(f"{name} has shape {tuple(logits.shape)}: it must be [tokens, vocab]")
    return logits
