"""From whatever a user gives to a Drafter, and whether a draft model goes with a target."""

from __future__ import annotations

from typing import Any

from outrider.drafters.base import Drafter
from outrider.drafters.heads.loading import head_drafter, is_head
from outrider.drafters.model import ModelDrafter
from outrider.drafters.named import NAMED
from outrider.errors import ModelError, SettingError, VocabularyError
from outrider.runtimes.base import Model
from outrider.runtimes.loading import as_model
from outrider.text import first_difference


def as_drafter(draft_model: Any, target: Model, tokenizer: Any = None) -> Drafter | None:
    """A drafter from whatever a user gives.

    None, a Drafter, its name, the folder of a draft head, or a model in any form that `as_model` takes.

    The names are those of the command line that need no draft model: lookup (the default drafter,
    `lookup_drafter(target)`), suffix, suffix-tree and recycling.

    Raises:
        VocabularyError: a draft model has another vocabulary than the target.
        ModelError: it is none of these, or a model cannot be found or used.
        SettingError: it is a class of drafters.
    """
    if draft_model is None or isinstance(draft_model, Drafter):
        return draft_model
    if is_name(draft_model):
        return NAMED[draft_model](target)
    if is_head(draft_model):
        return head_drafter(draft_model, target)
    _refuse_class(draft_model)
    model = as_model(draft_model, tokenizer)
    require_same_vocabulary(model, target)
    return ModelDrafter(model)


def is_drafter_by_name(draft_model: Any) -> bool:
    """Whether a name or a folder stands for a drafter that is made for its target, not for a model."""
    return is_name(draft_model) or is_head(draft_model)


def is_name(draft_model: Any) -> bool:
    """Whether it is the name of a drafter, which is made for its target; other texts name models."""
    return isinstance(draft_model, str) and draft_model in NAMED


def as_member(drafter: Any) -> Drafter:
    """A drafter among several, from a Drafter or a draft model in any form.

    Raises:
        ModelError: it is neither, or a model cannot be found or used.
        SettingError: it is a class of drafters.
    """
    if isinstance(drafter, Drafter):
        return drafter
    _refuse_class(drafter)
    if is_head(drafter):
        raise ModelError(f"head {drafter} drafts for one target: give head_drafter({str(drafter)!r}, target)")
    return ModelDrafter(drafter)


def _refuse_class(drafter: Any) -> None:
    if isinstance(drafter, type) and issubclass(drafter, Drafter):
        raise SettingError(f"{drafter.__name__} is a class of drafters: give one of them, {drafter.__name__}()")


def require_same_vocabulary(draft: Model, target: Model) -> None:
    """Refuse two models whose token ids mean different things; their logits may be padded to different widths.

    Raises:
        VocabularyError: the tokenizers differ, or, where one has none, the widths of the logits.
    """
    if draft.tokenizer is not None and target.tokenizer is not None:
        difference = first_difference(draft.tokenizer, target.tokenizer)
        if difference is None:
            return
        reason = (
            f"their tokenizers differ: token {difference.token} is {difference.one} to the draft and "
            f"{difference.other} to the target"
        )
    elif draft.traits.vocab_size == target.traits.vocab_size:
        return
    else:
        reason = "without both tokenizers the widths must be equal"
    raise VocabularyError(
        f"draft {draft.name} has a vocabulary of {draft.traits.vocab_size} and target {target.name} one of "
        f"{target.traits.vocab_size}, and {reason}; choose a draft model of the same family, or draft across "
        "tokenizers "
        "(IntersectionDrafter or StringDrafter; --drafter intersection or string)"
    )
