"""What is refused before the first token: when an engine opens, and when a request is submitted."""

from __future__ import annotations

from outrider.drafters.base import Drafter
from outrider.errors import InputError, SettingError, shown
from outrider.maths.rules import FOR_TREES, Rule, rule_named
from outrider.prompts.request import PreparedRequest
from outrider.prompts.tokens import check_tokens
from outrider.runtimes.base import Model
from outrider.values import is_whole, whole

MOST_ROWS = 2**16


def require_size(max_rows: int, max_waiting: int, capacity: int | None, memory_limit: int | None) -> None:
    """Raises SettingError where an engine would be too small to decode, or a size is no whole number."""
    whole("max_rows", max_rows, 1, MOST_ROWS)
    whole("max_waiting", max_waiting, 0)
    if capacity is not None and not is_whole(capacity, 2):
        raise SettingError(f"capacity is {shown(capacity)}: it must be at least 2, a token of prompt and one of output")
    if memory_limit is not None and not is_whole(memory_limit, 0):
        raise SettingError(f"memory_limit is {shown(memory_limit)}: it must be a whole number of bytes, or None")


def require_drafts_judged(drafter: Drafter, rule: Rule) -> None:
    """Raises SettingError where the rule cannot judge what the drafter proposes."""
    if drafter.trees and not rule.judges_trees:
        raise SettingError(
            f"rule {rule} judges chains, and drafter {drafter.name} proposes trees: use rule {FOR_TREES}"
        )


def rule_of(request: PreparedRequest, drafter: Drafter | None, own: Rule) -> Rule:
    """The rule that judges the drafts of a request: the one that it names, or the engine's own.

    Args:
        drafter: for the request.

    Raises:
        SettingError: the rule cannot judge what the drafter proposes.
    """
    rule = own if request.rule is None else rule_named(request.rule)
    if drafter is not None and request.num_draft_tokens != 0:
        require_drafts_judged(drafter, rule)
    return rule


def require_features(drafter: Drafter, target: Model) -> None:
    """Raises SettingError where the target does not give what the drafter reads."""
    refusal = target.traits.refusal(drafter.wants.within(target.traits.vocab_size))
    if refusal is not None:
        raise SettingError(f"drafter {drafter.name} cannot draft for model {target.name}: {refusal}")


def check_request(request: PreparedRequest, model: Model, capacity: int) -> int:
    """Refuse a request that does not fit into a row.

    Args:
        capacity: of a row, in tokens.

    Returns:
        the most tokens that prompt and output may have together.

    Raises:
        InputError: the prompt cannot be decoded, or there is no room for max_tokens.
    """
    check_tokens(request.prompt, model, capacity)
    limit = len(request.prompt) + request.max_tokens
    if limit > capacity and capacity < model.traits.context_length:
        raise InputError(
            f"the request needs {limit} tokens, {len(request.prompt)} of prompt and {request.max_tokens} of "
            f"output, and a row of this engine holds {capacity}: ask for at most "
            f"{capacity - len(request.prompt)} tokens, or open the engine with a larger capacity"
        )
    return min(limit, capacity)
