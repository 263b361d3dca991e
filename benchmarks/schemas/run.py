"""Documents of random schemas, by every drafter, and whether they are valid."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from benchmarks.schemas.generator import Schema, random_schema, with_last_digits
from outrider import (
    Drafter,
    JointDrafter,
    LookupDrafter,
    Merged,
    ModelDrafter,
    ModelTreeDrafter,
    SpeculativeDecoder,
    SuffixDrafter,
    head_drafter,
    lookup_drafter,
)
from outrider.errors import OutriderError
from outrider.maths.rules import RuleName
from outrider.runtimes.base import Model
from outrider.structured import json_schema

DRAFTERS: dict[str, Callable[[Model], Drafter | None]] = {
    "none": lambda draft: None,
    "model": lambda draft: ModelDrafter(draft),
    "model-tree": lambda draft: ModelTreeDrafter(draft),
    "suffix": lambda draft: SuffixDrafter(),
    "suffix-drawn": lambda draft: SuffixDrafter(greedy=False),
    "lookup": lambda draft: LookupDrafter(),
    "merged": lambda draft: Merged([SuffixDrafter(), ModelDrafter(draft)], rests=False),
}
# For a target with hidden states, and a head for it.
WITH_HEAD: dict[str, Callable[[Model, str], Drafter]] = {
    "head": lambda target, head: head_drafter(head, target),
    "head in chains": lambda target, head: head_drafter(head, target, trees=False),
    "lookup and head": lambda target, head: JointDrafter(lookup_drafter(target), head_drafter(head, target)),
}
RULES: tuple[RuleName, ...] = ("token", "coupled")  # in turns
TEMPERATURES = (0.0, 1.0)
MOST_TOKENS = 1500
PROMPT = '{"id": 1, "name": "red", "customer_identifier": null}\n'


@dataclass
class Count:
    """What became of the documents of one drafter at one temperature."""

    drafter: str
    temperature: float
    documents: int = 0
    valid: int = 0
    unfinished: int = 0
    tokens: int = 0
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    wrong: list[str] = field(default_factory=list)


def schemas_of(numbers: range, ending: bool) -> dict[int, Schema]:
    """Random schemas by their numbers; ending ones have numbers with a last digit."""
    found = {number: random_schema(Random(number)) for number in numbers}
    return {number: with_last_digits(schema) for number, schema in found.items()} if ending else found


def count_valid(
    target: Model, draft: Model, schemas: Mapping[int, Schema], temperatures: Sequence[float] = TEMPERATURES
) -> Iterator[Count]:
    """Documents of schemas, for each drafter and temperature."""
    for name, make in DRAFTERS.items():
        yield from _count(name, partial(make, draft), target, temperatures, schemas)


def count_valid_with_head(
    target: Model,
    head: str,
    schemas: Mapping[int, Schema],
    temperatures: Sequence[float] = TEMPERATURES,
    drafters: Collection[str] = tuple(WITH_HEAD),
) -> Iterator[Count]:
    """The same for drafters with a head."""
    for name in drafters:
        make = partial(WITH_HEAD[name], target, head)
        yield from _count(name, make, target, temperatures, schemas)


def _count(
    name: str,
    make: Callable[[], Drafter | None],
    target: Model,
    temperatures: Sequence[float],
    schemas: Mapping[int, Schema],
) -> Iterator[Count]:
    for temperature in temperatures:
        count = Count(name, temperature)
        # A drafter knows no schema, so that one of each rule serves for all documents.
        decoders = [SpeculativeDecoder(make(), target, 5, rule=rule) for rule in RULES]
        for number, schema in schemas.items():
            _add(count, decoders[number % len(decoders)], schema, number)
        yield count


def _add(count: Count, decoder: SpeculativeDecoder, schema: Schema, number: int) -> None:
    count.documents += 1
    try:
        found = decoder.generate(
            PROMPT, structured=json_schema(schema), temperature=count.temperature, seed=number, max_tokens=MOST_TOKENS
        )
    except OutriderError as error:
        count.wrong.append(f"schema {number}: {error}")
        return
    count.tokens += len(found.tokens)
    count.rounds += found.stats.rounds
    count.drafted += found.stats.drafted
    count.accepted += found.stats.accepted
    if str(found.finish_reason) != "stop":
        count.unfinished += 1
        return
    reason = why_invalid(found.text, schema)
    if reason is None:
        count.valid += 1
    else:
        count.wrong.append(f"schema {number}: {found.text!r}: {reason}")


def why_invalid(text: str, schema: Schema) -> str | None:
    """Why a text is no document of a schema; None where it is one."""
    import jsonschema

    try:
        document: Any = json.loads(text)
        kind = jsonschema.Draft202012Validator
        kind(schema, format_checker=kind.FORMAT_CHECKER).validate(document)
    except (ValueError, jsonschema.ValidationError) as error:
        return str(error).splitlines()[0]
    return None
