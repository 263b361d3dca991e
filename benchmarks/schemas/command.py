"""`python -m benchmarks schemas`: are documents of random JSON schemas valid, whatever drafts?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from benchmarks.schemas.run import Count, count_valid, count_valid_with_head
from benchmarks.schemas.scribbler import Scribbler
from outrider import load
from outrider.cli.bench import tables
from outrider.cli.options.group import option
from outrider.cli.options.output import TableOptions
from outrider.cli.terminal import messages
from outrider.runtimes.base import Model
from outrider.runtimes.smollm2 import SMOLLM2

HEADINGS = ("drafter", "temperature", "documents", "valid", "cut off", "tokens", "per round", "accepted")


def command(
    table: TableOptions,
    count: Annotated[int, option("--count", "N", "How many schemas.")] = 500,
    first: Annotated[int, option("--first", "N", "The number of the first one.")] = 0,
    head: Annotated[
        str | None, option("--head", "HEAD", "SmolLM2 itself, with a head: smollm2-head, or a folder.")
    ] = None,
) -> int:
    """Documents of random JSON schemas, by a model that writes at random with SmolLM2's tokenizer."""
    model = load(SMOLLM2)
    counts = []
    for each in _counts(model, head, count, first):
        counts.append(each)
        messages().print(f"{each.drafter} at {each.temperature}: {each.valid} of {each.documents} valid", style="dim")
        for wrong in each.wrong[:5]:
            messages().print(wrong, markup=False)
    remark = "a document that reached the most tokens is cut off, and is none"
    tables.show(counts, HEADINGS, [_cells(each) for each in counts], remark, table)
    return int(any(each.wrong for each in counts))


def _counts(model: Model, head: str | None, count: int, first: int) -> Iterator[Count]:
    if head is not None:
        return count_valid_with_head(model, head, count, first)
    assert model.tokenizer is not None
    target = Scribbler(model.tokenizer, model.traits.stop_token_ids, 1)
    draft = Scribbler(model.tokenizer, model.traits.stop_token_ids, 2, like=target)
    return count_valid(target, draft, count, first)


def _cells(count: Count) -> tuple[str, ...]:
    return (
        count.drafter,
        f"{count.temperature:g}",
        str(count.documents),
        str(count.valid),
        str(count.unfinished),
        str(count.tokens),
        f"{count.tokens / max(count.rounds, 1):.2f}",
        f"{count.accepted / max(count.drafted, 1):.0%}",
    )
