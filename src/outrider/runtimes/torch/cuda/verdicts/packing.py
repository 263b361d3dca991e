"""From drafts, settings and random numbers to the area that a verdict reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from outrider.maths.draft import CHOSEN, Draft
from outrider.maths.noise import uniform
from outrider.runtimes.judging import Case
from outrider.runtimes.torch.cuda.verdicts.layout import Kind, VerdictLayout, padded, padded_draft
from outrider.runtimes.torch.cuda.verdicts.penalties import Pairs
from outrider.runtimes.torch.cuda.verdicts.settings import Filters, settings_of
from outrider.runtimes.torch.cuda.verdicts.trees import NONE

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Sections = dict[str, Any]


def layout_of(kind: Kind, cases: Sequence[Case], scored: int, pairs: Pairs | None) -> VerdictLayout:
    """The shape of a verdict.

    Args:
        scored: rows of logits, with padding.
    """
    drafts = [case.draft for case in cases]
    tree, judged = kind is Kind.TREE, kind is not Kind.COUPLED
    drawn = sum(map(len, map(used_rows, drafts))) if judged else 0
    return VerdictLayout(
        kind,
        rows=padded(len(cases)) if judged else 0,
        scored=scored,
        most=padded_draft(max(len(draft.in_order()) if tree else len(draft) for draft in drafts)) if judged else 0,
        levels=padded_draft(max(draft.deepest for draft in drafts)) if tree else 0,
        siblings=padded(max(map(_most_siblings, cases))) if tree else 0,
        drawn=padded_draft(drawn),
        pairs=0 if pairs is None else 1 << max(len(pairs.places) - 1, 63).bit_length(),
        filters=Filters.of([case.sampling for case in cases]),
    )


def pack(area: Numbers, layout: VerdictLayout, cases: Sequence[Case], pairs: Pairs | None) -> None:
    """Fill the area; padding judges the first row of the logits, and nobody reads what comes of it."""
    area[: layout.size] = 0
    into = layout.sections(area)
    _pack_settings(into["settings"], cases)
    if pairs is not None:
        _pack_pairs(into, cases, pairs)
    if layout.kind is Kind.COUPLED:
        _pack_keys(into["keys"], cases)
        return
    into["q_rows"][:] = CHOSEN
    for number, (case, places) in enumerate(zip(cases, _places_in_q(cases), strict=True)):
        line = {name: section[number] for name, section in into.items() if name in LINES}
        if layout.kind is Kind.TREE:
            _pack_tree(line, into["tried"], number * layout.most, case, places)
        else:
            _pack_chain(line, layout.kind, case, places)
        into["first"][number] = case.first
    if layout.kind is Kind.TREE:
        into["parents"][len(cases) :] = NONE
    else:
        into["counts"][: len(cases)] = [len(case.draft) for case in cases]


LINES = {"tokens", "q_rows", "accept", "next", "parents", "nodes", "order"}


def _pack_settings(into: Any, cases: Sequence[Case]) -> None:
    """Rows of the logits that belong to no case are sampled from as they are."""
    into[:] = np.array([1.0, 0.0, 1.0, 0.0])[:, None]
    for case in cases:
        into[:, case.first : case.first + 1 + len(case.draft)] = settings_of(case.sampling)[:, None]


def _pack_pairs(into: Sections, cases: Sequence[Case], pairs: Pairs) -> None:
    into["penalties"][0] = 1
    for case in cases:
        rows, sampling = slice(case.first, case.first + 1 + len(case.draft)), case.sampling
        numbers = [sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty]
        into["penalties"][:, rows] = np.array(numbers)[:, None]
    count = len(pairs.places)
    for name, values in pairs._asdict().items():
        into[name][:count] = values
        into[name][count:] = values[0]  # once more the same


def _pack_keys(into: Any, cases: Sequence[Case]) -> None:
    for case in cases:
        keys = [case.noise.target(case.noise.start + depth) for depth in (0, *case.draft.depths)]
        signed = np.array(keys, dtype=np.uint32).view(np.int32)
        into[case.first : case.first + len(keys)] = signed


def _pack_chain(into: Sections, kind: Kind, case: Case, places: dict[int, int]) -> None:
    draft, noise, count = case.draft, case.noise, len(case.draft)
    into["tokens"][:count] = draft.tokens
    into["q_rows"][:count] = [places[draft.q_row(node)] for node in range(count)]
    # The branch is the number of the trial under `token`, as in maths/rules.py; `block` tries no single token.
    into["accept"][:count] = [
        noise.accept(noise.start + node, branch=node if kind is Kind.TOKEN else 0) for node in range(count)
    ]
    _pack_next(into, case, count)


def _pack_tree(into: Sections, tried: Any, first_trial: int, case: Case, places: dict[int, int]) -> None:
    draft, noise, first = case.draft, case.noise, case.first
    depths = (0, *draft.depths)
    orders = dict[int, int]()
    into["parents"][:] = NONE
    for number, trial in enumerate(draft.in_order()):
        above = draft.parent(trial.node)
        order = orders[above] = orders.get(above, -1) + 1
        parent = first + above + 1
        into["parents"][number], into["nodes"][number] = parent, first + trial.node + 1
        into["tokens"][number], into["order"][number] = draft.tokens[trial.node], order
        into["q_rows"][number] = places[trial.q_row]
        into["accept"][number] = noise.accept(noise.start + depths[above + 1], branch=number)
        tried[order, parent] = first_trial + number + 1
    _pack_next(into, case, draft.deepest)


def _pack_next(into: Sections, case: Case, most: int) -> None:
    """The uniform numbers of the next token after 0, 1, ... accepted ones."""
    noise = case.noise
    into["next"][: most + 1] = [uniform(noise.next(noise.start + accepted)) for accepted in range(most + 1)]


def used_rows(draft: Draft) -> list[int]:
    """The rows of q that tokens of the draft were drawn from, ascending."""
    return [] if draft.q is None else sorted({trial.q_row for trial in draft.in_order()} - {CHOSEN})


def _places_in_q(cases: Sequence[Case]) -> list[dict[int, int]]:
    """For each draft where its rows of q are, among those that are used of all drafts."""
    found, first = [], 0
    for case in cases:
        rows = used_rows(case.draft)
        found.append({CHOSEN: CHOSEN} | {row: first + place for place, row in enumerate(rows)})
        first += len(rows)
    return found


def _most_siblings(case: Case) -> int:
    counts = dict[int, int]()
    for trial in case.draft.in_order():
        above = case.draft.parent(trial.node)
        counts[above] = counts.get(above, 0) + 1
    return max(counts.values(), default=0)
