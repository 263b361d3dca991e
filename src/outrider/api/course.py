"""Drafting alone and verifying alone, as a course takes speculation apart: verify_speculation and draft_tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.drafters.base import Drafter
from outrider.engine.sequence import ActiveSequence
from outrider.errors import InputError, ModelError, SettingError, VocabularyError, first_line, shown
from outrider.maths.arrays import float32
from outrider.maths.budget import Budget
from outrider.maths.distributions import AllAtOnce
from outrider.maths.draft import ROOT, Draft
from outrider.maths.noise import RoundNoise
from outrider.maths.rules import Rule, RuleName, follow, rule_named
from outrider.maths.sampling import SamplingParams, check_finite, distribution, most_probable
from outrider.prompts.request import PreparedRequest, drawn_seed
from outrider.prompts.tokens import token_list
from outrider.runtimes.base import NOTHING
from outrider.values import is_whole

MOST_DRAFTED = 2**16  # tokens of one draft


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
        target_logits: [k + 1, vocab], or [k, vocab] where no bonus token is wanted; NumPy, PyTorch or MLX. Row i
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
    target = _two_axes(_floats(target_logits, "target_logits"), "target_logits")
    width = target.shape[-1]
    if target.shape[0] not in (len(tokens), len(tokens) + 1) or target.shape[0] == 0:
        rows = f"{len(tokens) + 1} (the last for the bonus) or {len(tokens)}" if tokens else "1, for the bonus"
        raise InputError(f"target_logits has {target.shape[0]} rows for {len(tokens)} draft tokens: give {rows}")
    bad = next((token for token in tokens if not 0 <= token < width), None)
    if bad is not None:
        raise InputError(f"draft token {bad} is outside the vocabulary of {width}")
    draft_rows = None
    if draft_logits is not None and tokens:
        draft_rows = _two_axes(_floats(draft_logits, "draft_logits", like=target), "draft_logits")
        if draft_rows.shape[0] != len(tokens):
            raise InputError(
                f"draft_logits has {draft_rows.shape[0]} rows for {len(tokens)} draft tokens: give one each"
            )
        if draft_rows.shape[-1] != width:
            raise VocabularyError(
                f"draft_logits are {draft_rows.shape[-1]} wide and target_logits {width}: both models must share one "
                "vocabulary"
            )
    _require_finite(target, "target_logits")
    if draft_rows is not None:
        _require_finite(draft_rows, "draft_logits")
    if sampling.greedy:
        verdict = follow(Draft(tokens), most_probable(target).tolist())
    else:
        q = None if draft_rows is None else distribution(draft_rows, sampling)
        p = AllAtOnce(distribution(target, sampling))
        noise = RoundNoise(drawn_seed() if sampling.seed is None else sampling.seed, 0, rule.shares_noise)
        verdict = rule.verdict(Draft(tokens, q=q), p, noise)
    following = [] if verdict.token is None else [verdict.token]
    return verdict.accepted, [*(tokens[node] for node in verdict.path), *following]


def _require_finite(logits: Any, name: str) -> None:
    """Raises ModelError naming the array and its first bad row."""
    try:
        check_finite(logits)
    except ModelError:
        for row in range(logits.shape[0]):
            try:
                check_finite(logits[row : row + 1])
            except ModelError as error:
                raise ModelError(f"row {row} of {name}: {error}") from error
        raise


def _floats(logits: Any, name: str, like: Any = None) -> Any:
    """Raises InputError where they are no numbers."""
    try:
        return float32(logits, like=like)
    except InputError:
        raise
    except Exception as error:  # of the library that they belong to
        raise InputError(
            f"{name} cannot be read as numbers ({first_line(error)}): give an array [tokens, vocab] of NumPy, PyTorch "
            "or MLX"
        ) from error


def _two_axes(logits: Any, name: str) -> Any:
    if logits.ndim == 3 and logits.shape[0] == 1:
        logits = logits[0]
    if logits.ndim != 2:
        raise InputError(f"{name} has shape {tuple(logits.shape)}: it must be [tokens, vocab]")
    return logits


def draft_tokens(
    drafter: Drafter, prompt: tuple[int, ...], num_tokens: int, sampling: SamplingParams, rule: Rule, vocab_size: int
) -> list[int]:
    """The tokens that a drafter proposes after a prompt; of a tree one path.

    The drafter is prepared for this, and has to be prepared again before an engine uses it.

    Raises:
        InputError: num_tokens is negative, or no whole number.
        SettingError: the drafter reads the target's passes, and there are none.
    """
    if not is_whole(num_tokens, 0) or num_tokens > MOST_DRAFTED:
        raise InputError(f"num_tokens is {shown(num_tokens)}: it must be a whole number from 0 to {MOST_DRAFTED}")
    if drafter.wants != NOTHING:
        raise SettingError(f"drafter {drafter.name} reads the target's passes and cannot draft alone: use generate")
    num_tokens = int(num_tokens)  # of NumPy it would overflow in sums
    length = len(prompt) + num_tokens
    request = PreparedRequest(prompt, max(num_tokens, 1), sampling)
    seed = drawn_seed() if sampling.seed is None else sampling.seed
    sequence = ActiveSequence(0, request, length, rule, seed)
    drafter.prepare(1, length, vocab_size)
    draft = drafter.propose([sequence], [Budget(num_tokens, num_tokens)])[0]
    drafter.forget(sequence)
    return [draft.tokens[node] for node in _chain_within(draft)]


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
