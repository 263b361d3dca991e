"""Prompts to measure with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from outrider.errors import InputError


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt and the kind of task it is."""

    category: str
    text: str


def read_questions(file: Path) -> list[Question]:
    """Questions from JSON lines: {"prompt": text}, or Spec-Bench's {"category": ..., "turns": [first, ...]}.

    Raises:
        InputError: the file cannot be read, or a line is neither.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"questions {file} cannot be read: {error}") from error
    questions = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            text = entry["prompt"] if "prompt" in entry else entry["turns"][0]
            questions.append(Question(str(entry.get("category", "all")), str(text)))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise InputError(
                f'line {number} of {file} is no question: give {{"prompt": "..."}} '
                'or {"category": "...", "turns": ["..."]}'
            ) from error
    if not questions:
        raise InputError(f"questions {file} holds none: give one JSON object per line")
    return questions


def spread(questions: Sequence[Question], per_category: int | None) -> list[Question]:
    """The first questions of each category, taken in turn, so that a run cut short has seen every category."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.category, []).append(question)
    longest = max(len(group) for group in groups.values())
    limit = longest if per_category is None else per_category
    return [group[turn] for turn in range(min(limit, longest)) for group in groups.values() if turn < len(group)]
