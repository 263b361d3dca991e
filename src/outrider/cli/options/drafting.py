"""What drafts, how far, and how drafts are verified."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import outrider
from outrider.cli.options.drafters import (
    HEAD,
    MODEL_LOOKAHEAD,
    NONE,
    SUFFIX_LOOKAHEAD,
    DrafterKind,
    drafter_named,
    drafter_with,
)
from outrider.cli.options.files import read_file
from outrider.cli.options.group import option
from outrider.cli.options.models import ModelOptions
from outrider.cli.terminal import messages
from outrider.drafters.heads.loading import is_head
from outrider.drafters.named import LOOKUP, RECYCLING, SUFFIX, recycling
from outrider.drafters.recycling.state import load_state
from outrider.errors import SettingError
from outrider.lookahead import AdaptiveSpeculator
from outrider.maths.rules import FOR_TREES, RULES, RuleName

SPECULATION = "Speculation"
LOOKAHEAD_FLAGS = "--num-draft-tokens --draft-max"
LONGEST_ADAPTIVE = 16  # tokens, unless --num-draft-tokens asks for more

RuleOption = Annotated[
    RuleName, option("--rule", "NAME", f"How drafts are verified: {', '.join(RULES)}. All are exact.", SPECULATION)
]
LookaheadOption = Annotated[
    int | None,
    option(
        LOOKAHEAD_FLAGS,
        "N",
        f"The lookahead, in tokens. Default: {MODEL_LOOKAHEAD} for a model, {SUFFIX_LOOKAHEAD} for suffix and trees.",
        SPECULATION,
    ),
]
LearnOption = Annotated[
    bool,
    option(
        "--learn",
        None,
        "While nothing is asked, train the draft head on what was just decoded. Texts stay in this process.",
        SPECULATION,
    ),
]
ChosenLookaheadOption = Annotated[
    int | None,
    option(
        LOOKAHEAD_FLAGS,
        "N",
        "Fix the lookahead, in tokens. Default: in every round the one with the most expected tokens per second, from "
        "measured times and observed acceptance.",
        SPECULATION,
    ),
]


@dataclass(frozen=True, slots=True)
class DraftingOptions:
    """What drafts, with a lookahead that each kind of drafter has its own default for."""

    drafter: Annotated[
        str | None,
        option(
            "--drafter",
            "KIND",
            "lookup, of suffixes of the text and recycled successors; either alone: suffix, suffix-tree, recycling; "
            "model, or model-tree, which drafts several continuations at once; head, a draft head that reads the "
            "target's hidden states; merged joins a model or head and lookups; none. "
            "For a draft model with another tokenizer: intersection, of the two vocabularies, or string, which drafts "
            "any text. Default: model or head if --draft-model is given, else lookup, on llama.cpp and native suffix.",
            SPECULATION,
        ),
    ] = None
    tree: Annotated[
        str | None,
        option(
            "--tree",
            "WIDTHS",
            "Draft trees of this shape, children per node level by level: 3,2,1. Default for model-tree: where the "
            "draft model expects to be right.",
            SPECULATION,
        ),
    ] = None
    num_draft_tokens: LookaheadOption = None
    rule: RuleOption = "token"

    def kind(self, models: ModelOptions) -> DrafterKind:
        """What drafts. Whether the rule judges it is checked as well.

        Raises:
            SettingError: flags contradict each other, or name something unknown.
        """
        kind = _named(self.drafter, models)
        if kind.in_chains is not None and not RULES[self.rule].judges_trees:
            kind = replace(kind, make=kind.in_chains, trees=False)
        if kind.trees and not RULES[self.rule].judges_trees:
            raise SettingError(
                f"--rule {self.rule} judges chains and --drafter {kind} drafts trees: use --rule {FOR_TREES}"
            )
        return kind if self.tree is None else _shaped(kind, self.tree)

    def lookahead(self, kind: DrafterKind) -> int:
        """Tokens per round, from the flag or the kind's own default.

        Raises:
            SettingError: as `check_lookahead`.
        """
        check_lookahead(kind, self.num_draft_tokens)
        return kind.lookahead if self.num_draft_tokens is None else self.num_draft_tokens


@dataclass(frozen=True, slots=True)
class SelfTuningOptions(DraftingOptions):
    """What drafts, with a lookahead that is chosen in every round unless it is fixed.

    Attributes:
        predict, predict_file: text that is expected, for drafters that copy; one of them at most.
    """

    num_draft_tokens: ChosenLookaheadOption = None
    adaptive: Annotated[
        bool,
        option(
            "--adaptive",
            None,
            "Let the rolling acceptance rate drive the lookahead, from --num-draft-tokens on "
            f"(default {MODEL_LOOKAHEAD} for a model, {SUFFIX_LOOKAHEAD} for suffix and for trees).",
            SPECULATION,
        ),
    ] = False
    predict: Annotated[
        str | None,
        option("--predict", "TEXT", "Text that you expect in the answer, for the suffix drafter.", SPECULATION),
    ] = None
    drafter_state: Annotated[
        Path | None,
        option(
            "--drafter-state",
            "FILE",
            "What the drafter lookup or recycling learned: read at the start if it is there, written at the end.",
            SPECULATION,
        ),
    ] = None
    predict_file: Annotated[Path | None, option("--predict-file", "FILE", "The same, from a file.", SPECULATION)] = None

    def kind(self, models: ModelOptions) -> DrafterKind:
        """As DraftingOptions; a file of what lookups learned asks for lookups."""
        lookups = self.drafter is None and self.drafter_state is not None and models.draft_model is None
        return DraftingOptions.kind(replace(self, drafter=LOOKUP) if lookups else self, models)

    def policy(self, kind: DrafterKind) -> int | AdaptiveSpeculator | None:
        """The lookahead; None chooses by measured goodput.

        Raises:
            SettingError: as `check_lookahead`, or nothing drafts that could be adapted.
        """
        check_lookahead(kind, self.num_draft_tokens)
        if self.adaptive:
            if kind.name == NONE:
                raise SettingError("--adaptive drives a drafter and --drafter is none: leave one of them out")
            first = self.lookahead(kind)
            return AdaptiveSpeculator(max(first, 1), max_lookahead=max(first, LONGEST_ADAPTIVE))
        return 0 if kind.name == NONE else self.num_draft_tokens

    def with_state(self, kind: DrafterKind, many: bool) -> DrafterKind:
        """The kind, which starts from the file of --drafter-state, and remembers texts.

        Args:
            many: whether many prompts are decoded. They are the user's own: each may be drafted from the others.

        Raises:
            SettingError: it keeps nothing.
            InputError: the file cannot be used.
        """
        file = self.drafter_state
        if file is None and not (many and kind.name == LOOKUP):
            return kind
        if kind.name not in (LOOKUP, RECYCLING):
            raise SettingError(
                f"--drafter-state is for the drafters {LOOKUP} and {RECYCLING} and --drafter is {kind}: leave one out"
            )
        # Read here, so that a damaged file is refused before a model is opened.
        known = load_state(file) if file is not None and file.exists() else None
        trees = kind.trees
        if kind.name == RECYCLING:
            return replace(kind, make=lambda target: recycling(target, trees, known))
        return replace(
            kind,
            make=lambda target: outrider.lookup_drafter(
                target, known, memory=outrider.SuffixMemory(prompts=many), trees=trees
            ),
        )

    def predicted(self, kind: DrafterKind) -> str:
        """The expected text; empty where none is given.

        Raises:
            SettingError: it is given twice, or the drafter does not copy.
            InputError: the file cannot be read.
        """
        if self.predict is None and self.predict_file is None:
            return ""
        if not kind.suffixes:
            raise SettingError(f"--predict is for the suffix drafter and --drafter is {kind}: leave one of them out")
        if self.predict is not None and self.predict_file is not None:
            raise SettingError("--predict and --predict-file are both given: leave one of them out")
        return self.predict if self.predict_file is None else read_file(self.predict_file)  # type: ignore[return-value]


def check_lookahead(kind: DrafterKind, given: int | None) -> None:
    """Raises SettingError where the lookahead is below 0, or nothing drafts that it could concern."""
    if given is not None and given < 0:
        raise SettingError(f"--num-draft-tokens is {given}: it must be at least 0 (0 decodes plainly)")
    if given and kind.name == NONE:
        raise SettingError(f"--num-draft-tokens is {given} and --drafter is none: leave one of them out")


def say_whether_reproducible(rule: RuleName, lookahead: object) -> None:
    """A line where the seed alone does not decide what is drawn. `lookahead` None is chosen by measured goodput."""
    if not RULES[rule].shares_noise and lookahead is None:
        messages().print(
            f"under --rule {rule} the text depends on the lookahead, which is chosen from measured times: for the same "
            "text from the same --seed add --rule coupled, or --num-draft-tokens N",
            style="dim",
        )


def _named(drafter: str | None, models: ModelOptions) -> DrafterKind:
    draft_model = models.draft_model
    if drafter is None:
        if draft_model is None:
            return drafter_named(_default(models))
        drafter = HEAD if is_head(draft_model) else "model"
    kind = drafter_named(drafter)
    if kind.needs_model and draft_model is None:
        raise SettingError(f"--drafter {kind} needs a draft model: give --draft-model as well")
    if not kind.needs_model and draft_model is not None:
        raise SettingError(f"--draft-model is given and --drafter is {kind}: leave one of them out")
    return drafter_with(drafter, draft_model)


def _default(models: ModelOptions) -> str:
    # In llama.cpp a further token costs much of a pass, and suffixes lose less where nothing is copied: measured in
    # docs/drafting.md.
    return SUFFIX if models.target_backend == "llama" else LOOKUP


def _shaped(kind: DrafterKind, widths: str) -> DrafterKind:
    """The kind, with trees of the shape that --tree asks for."""
    if kind.name != "model-tree":
        raise SettingError(f"--tree is for --drafter model-tree and --drafter is {kind}: change one of them")
    try:
        shape = outrider.StaticTree(tuple(int(width) for width in widths.split(",")))
    except ValueError as error:
        raise SettingError(f"--tree is {widths!r}: give children per node level by level, such as 3,2,1") from error
    return replace(kind, make_with=lambda model, target: outrider.ModelTreeDrafter(model, shape))
