"""What can draft, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import outrider
from outrider.drafters.base import Drafter
from outrider.drafters.heads.loading import is_head, require_eagle3
from outrider.drafters.loading import require_same_vocabulary
from outrider.drafters.named import LOOKUP, NAMED, RECYCLING, SUFFIX, SUFFIX_TREE, recycling
from outrider.errors import ModelError, SettingError
from outrider.maths.rules import FOR_TREES
from outrider.runtimes.base import Model

if TYPE_CHECKING:
    from outrider.drafters.heads.drafter import HeadDrafter
    from outrider.drafters.heads.learner import Learner

OpenHead = Callable[[Model, bool], "HeadDrafter"]  # with trees or not
Told = Callable[[str], object]
MODEL_LOOKAHEAD = 4
SUFFIX_LOOKAHEAD = 16  # it stops by itself where its match is weak
TREE_LOOKAHEAD = 16
NONE = "none"
HEAD = "head"
MERGED = "merged"


@dataclass(frozen=True, slots=True)
class DrafterKind:
    """A kind of drafter.

    Attributes:
        lookahead: tokens per round where a number is needed and none is given.
        make: from the target, where no draft model is needed.
        make_with: from draft model and target, where one is.
        same_vocabulary: whether the draft model must have the target's.
        trees: whether it drafts several continuations at once.
        suffixes: whether it copies from the text so far, and from a text that is expected.
        in_chains: from the target, the same without trees, where there is such a drafter.
        from_head: from what opens a head and the target, with trees or not, where a head can draft in place of a model.
        head: that drafts; None where none does.
    """

    name: str
    lookahead: int
    make: Callable[[Model], Drafter] | None = None
    make_with: Callable[[Model, Model], Drafter] | None = None
    same_vocabulary: bool = True
    trees: bool = False
    suffixes: bool = False
    in_chains: Callable[[Model], Drafter] | None = None
    from_head: Callable[[OpenHead, Model, bool], Drafter] | None = None
    head: str | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def needs_model(self) -> bool:
        """Whether it drafts with a model or a head."""
        return self.make_with is not None or self.from_head is not None

    def of_head(self, head: str, told: Told | None = None) -> DrafterKind:
        """The same for one draft head.

        Args:
            told: is called with a line when the head has learned; None lets it learn nothing.

        Raises:
            SettingError: it drafts with models alone.
        """
        make = self.from_head
        if make is None:
            able = " or ".join(kind.name for kind in DRAFTERS.values() if kind.from_head is not None)
            raise SettingError(f"{head} is a draft head and --drafter is {self}: use {able}")

        def opened(target: Model, trees: bool) -> HeadDrafter:
            return outrider.head_drafter(head, target, trees=trees, learner=_learner(head, target, told))

        return replace(
            self,
            head=head,
            make=lambda target: make(opened, target, self.trees),
            make_with=None,
            in_chains=lambda target: make(opened, target, False),
        )

    def learning(self, told: Told) -> DrafterKind:
        """The same, whose head learns while nothing is asked.

        Args:
            told: is called with a line when the head has learned.

        Raises:
            SettingError: no head drafts.
            ModelError: the head is of a kind that is not trained here.
        """
        if self.head is None:
            raise SettingError(
                f"--learn trains a draft head and --drafter is {self}: give a head with --draft-model, or leave it out"
            )
        require_eagle3(self.head)  # before a model is opened
        return self.of_head(self.head, told)

    def open(self, open_draft: Callable[[], Model], target: Model) -> Drafter | None:
        """A drafter of this kind; None decodes plainly.

        Args:
            open_draft: loads the draft model, where one is needed.

        Raises:
            VocabularyError: the draft model has another vocabulary, and this kind needs the target's.
            SettingError: it drafts with a head, and the draft model is none.
        """
        if self.make is not None:
            return self.make(target)
        if self.make_with is None:
            if self.from_head is not None:
                raise SettingError(f"--drafter {self} needs a draft head, and --draft-model is a model: give a head")
            return None
        model = open_draft()
        if self.same_vocabulary:
            require_same_vocabulary(model, target)
        return self.make_with(model, target)


def _chains(target: Model) -> Drafter:
    return outrider.lookup_drafter(target, trees=False)


def _head(open_head: OpenHead, target: Model, trees: bool) -> Drafter:
    return open_head(target, trees)


def _learner(head: str, target: Model, told: Told | None) -> Learner | None:
    if told is None:
        return None
    try:
        from outrider.training.idle import IdleLearner
    except ImportError as error:
        raise ModelError("--learn trains by PyTorch: pip install 'outrider[torch]'") from error
    return IdleLearner(head, target, told=told)


def merged(lookups: Callable[[Model], Drafter]) -> DrafterKind:
    """The kind that joins a model or a head with lookups.

    Args:
        lookups: makes them, from the target.
    """

    def with_model(model: Model, target: Model) -> Drafter:
        return outrider.Merged([lookups(target), outrider.ModelTreeDrafter(model)])

    def with_head(open_head: OpenHead, target: Model, trees: bool) -> Drafter:
        if not trees:
            raise SettingError(f"--drafter {MERGED} drafts trees: use --rule {FOR_TREES}, or --drafter head")
        found, drafter = lookups(target), open_head(target, True)
        if isinstance(found, outrider.LookupDrafter) and found.trees and drafter.trees:
            return outrider.JointDrafter(found, drafter)
        return outrider.Merged([found, drafter])

    return DrafterKind(MERGED, TREE_LOOKAHEAD, make_with=with_model, trees=True, suffixes=True, from_head=with_head)


DRAFTERS = {
    kind.name: kind
    for kind in (
        DrafterKind(LOOKUP, TREE_LOOKAHEAD, make=NAMED[LOOKUP], trees=True, suffixes=True, in_chains=_chains),
        DrafterKind(
            RECYCLING,
            TREE_LOOKAHEAD,
            make=NAMED[RECYCLING],
            trees=True,
            in_chains=lambda target: recycling(target, trees=False),
        ),
        DrafterKind("model", MODEL_LOOKAHEAD, make_with=lambda model, target: outrider.ModelDrafter(model)),
        DrafterKind(
            "model-tree",
            TREE_LOOKAHEAD,
            make_with=lambda model, target: outrider.ModelTreeDrafter(model),
            trees=True,
        ),
        DrafterKind(HEAD, TREE_LOOKAHEAD, trees=True, from_head=_head),
        merged(outrider.lookup_drafter),
        DrafterKind("intersection", MODEL_LOOKAHEAD, make_with=outrider.IntersectionDrafter, same_vocabulary=False),
        DrafterKind("string", MODEL_LOOKAHEAD, make_with=outrider.StringDrafter, same_vocabulary=False),
        DrafterKind(SUFFIX, SUFFIX_LOOKAHEAD, make=NAMED[SUFFIX], suffixes=True),
        DrafterKind(SUFFIX_TREE, TREE_LOOKAHEAD, make=NAMED[SUFFIX_TREE], trees=True, suffixes=True),
        DrafterKind(NONE, 0),
    )
}


def drafter_with(name: str, draft_model: str | None) -> DrafterKind:
    """The kind of this name, for the draft head if the draft model is one.

    Raises:
        SettingError: there is none, or it takes no head.
        ModelError: the hub has no such draft model.
    """
    kind = drafter_named(name)
    return kind.of_head(draft_model) if draft_model is not None and kind.needs_model and is_head(draft_model) else kind


def drafter_named(name: str) -> DrafterKind:
    """The kind of this name.

    Raises:
        SettingError: there is none.
    """
    if name not in DRAFTERS:
        raise SettingError(f"drafter {name!r} is unknown: choose one of {', '.join(DRAFTERS)}")
    return DRAFTERS[name]
