"""What can draft, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import outrider
from outrider.drafters.base import Drafter
from outrider.drafters.loading import LOOKUP, require_same_vocabulary
from outrider.drafters.lookup.loading import recycling_memory
from outrider.errors import SettingError
from outrider.runtimes.base import Model

MODEL_LOOKAHEAD = 4
SUFFIX_LOOKAHEAD = 16  # it stops by itself where its match is weak
TREE_LOOKAHEAD = 16
NONE = "none"


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
    """

    name: str
    lookahead: int
    make: Callable[[Model], Drafter] | None = None
    make_with: Callable[[Model, Model], Drafter] | None = None
    same_vocabulary: bool = True
    trees: bool = False
    suffixes: bool = False
    in_chains: Callable[[Model], Drafter] | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def needs_model(self) -> bool:
        """Whether it drafts with a model."""
        return self.make_with is not None

    def open(self, open_draft: Callable[[], Model], target: Model) -> Drafter | None:
        """A drafter of this kind; None decodes plainly.

        Args:
            open_draft: loads the draft model, where one is needed.

        Raises:
            VocabularyError: the draft model has another vocabulary, and this kind needs the target's.
        """
        if self.make_with is None:
            return None if self.make is None else self.make(target)
        model = open_draft()
        if self.same_vocabulary:
            require_same_vocabulary(model, target)
        return self.make_with(model, target)


def _chains(target: Model) -> Drafter:
    return outrider.lookup_drafter(target, trees=False)


def _recycling(target: Model, trees: bool) -> Drafter:
    return outrider.RecyclingDrafter(recycling_memory(target), trees=trees)


def _merged(model: Model, target: Model) -> Drafter:
    return outrider.Merged([outrider.lookup_drafter(target), outrider.ModelTreeDrafter(model)])


DRAFTERS = {
    kind.name: kind
    for kind in (
        DrafterKind(LOOKUP, TREE_LOOKAHEAD, make=outrider.lookup_drafter, trees=True, suffixes=True, in_chains=_chains),
        DrafterKind(
            "recycling",
            TREE_LOOKAHEAD,
            make=lambda target: _recycling(target, trees=not target.traits.reads_branches),
            trees=True,
            in_chains=lambda target: _recycling(target, trees=False),
        ),
        DrafterKind("model", MODEL_LOOKAHEAD, make_with=lambda model, target: outrider.ModelDrafter(model)),
        DrafterKind(
            "model-tree",
            TREE_LOOKAHEAD,
            make_with=lambda model, target: outrider.ModelTreeDrafter(model),
            trees=True,
        ),
        DrafterKind("merged", TREE_LOOKAHEAD, make_with=_merged, trees=True, suffixes=True),
        DrafterKind("intersection", MODEL_LOOKAHEAD, make_with=outrider.IntersectionDrafter, same_vocabulary=False),
        DrafterKind("string", MODEL_LOOKAHEAD, make_with=outrider.StringDrafter, same_vocabulary=False),
        DrafterKind("suffix", SUFFIX_LOOKAHEAD, make=lambda target: outrider.SuffixDrafter(), suffixes=True),
        DrafterKind(
            "suffix-tree", TREE_LOOKAHEAD, make=lambda target: outrider.SuffixTreeDrafter(), trees=True, suffixes=True
        ),
        DrafterKind(NONE, 0),
    )
}


def drafter_named(name: str) -> DrafterKind:
    """The kind of this name.

    Raises:
        SettingError: there is none.
    """
    if name not in DRAFTERS:
        raise SettingError(f"drafter {name!r} is unknown: choose one of {', '.join(DRAFTERS)}")
    return DRAFTERS[name]
