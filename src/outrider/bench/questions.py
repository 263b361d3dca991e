"""A choice of prompts to measure with: some of each category."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.prompts.files import FilePrompt


def spread(questions: Sequence[FilePrompt], per_category: int | None) -> list[FilePrompt]:
    """The first questions of each category, in turn, so that a run that is cut short has seen every category."""
    groups: dict[str, list[FilePrompt]] = {}
    for question in questions:
        groups.setdefault(question.category, []).append(question)
    longest = max(len(group) for group in groups.values())
    limit = longest if per_category is None else per_category
    return [group[turn] for turn in range(min(limit, longest)) for group in groups.values() if turn < len(group)]
