"""`python -m benchmarks schemas`: are documents of random JSON schemas valid, whatever drafts?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from benchmarks.schemas.generator import Schema
from benchmarks.schemas.run import (
    TEMPERATURES,
    WITH_HEAD,
    Count,
    count_valid,
    count_valid_with_head,
    schemas_of,
)
from benchmarks.schemas.scribbler import Scribbler
from outrider import load
from outrider.cli.bench import tables
from outrider.cli.options.group import option
from outrider.cli.options.output import TableOptions
from outrider.cli.terminal import messages
from outrider.runtimes.base import Model
from outrider.runtimes.files.smollm2 import SMOLLM2

HEADINGS = ("drafter", "temperature", "documents", "valid", "cut off", "tokens", "per round", "accepted")


def command(
    table: TableOptions,
    count: Annotated[int, option("--count", "N", "How many schemas.")] = 500,
    first: Annotated[int, option("--first", "N", "The number of the first one.")] = 0,
    head: Annotated[
        str | None, option("--head", "HEAD", "SmolLM2 itself, with a head: smollm2-head, or a folder.")
    ] = None,
    drafter: Annotated[
        list[str] | None, option("--drafter", "NAME", f"With --head, these alone: {', '.join(WITH_HEAD)}.")
    ] = None,
    temperature: Annotated[list[float] | None, option("--temperature", "X", "These alone. Default: 0 and 1.")] = None,
    ending: Annotated[bool, option("--ending", None, "Numbers with three digits after the point at the most.")] = False,
) -> int:
    """Documents of random JSON schemas, by a model that writes at random with SmolLM2's tokenizer."""
    model = load(SMOLLM2)
    counts = []
    temperatures = tuple(temperature or TEMPERATURES)
    schemas = schemas_of(range(first, first + count), ending)
    if head is None:
        found = _by_a_scribbler(model, schemas, temperatures)
    else:
        found = count_valid_with_head(model, head, schemas, temperatures, drafter or tuple(WITH_HEAD))
    for each in found:
        counts.append(each)
        messages().print(f"{each.drafter} at {each.temperature}: {each.valid} of {each.documents} valid", style="dim")
        for wrong in each.wrong[:5]:
            messages().print(wrong, markup=False)
    remark = "a document that reached the most tokens is cut off, and is none"
    tables.show(counts, HEADINGS, [_cells(each) for each in counts], remark, table)
    return int(any(each.wrong for each in counts))


def _by_a_scribbler(model: Model, schemas: Mapping[int, Schema], temperatures: Sequence[float]) -> Iterator[Count]:
    assert model.tokenizer is not None
    target = Scribbler(model.tokenizer, model.traits.stop_token_ids, 1)
    draft = Scribbler(model.tokenizer, model.traits.stop_token_ids, 2, like=target)
    return count_valid(target, draft, schemas, temperatures)


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
