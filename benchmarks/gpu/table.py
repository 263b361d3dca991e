"""The table: what a round takes, plain and with drafts of known acceptance, and transformers beside it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.models import SHAPES, TRANSFORMERS, Language, generate, make
from benchmarks.gpu.rounds import Situation, device_work
from benchmarks.gpu.run import Run, attention_of_cudnn, last_lines
from outrider import Drafter, DynamicTree, Fixed, Model, ModelDrafter, ModelTreeDrafter
from outrider.drafters.base import DraftedSequence
from outrider.maths.budget import Budget
from outrider.maths.draft import Draft
from outrider.runtimes.base import Pass
from outrider.runtimes.torch.cuda.model import GraphedLlama

ROWS = (1, 8, 32)
LENGTHS = (256, 8192)
SETTLING = 14  # rounds until every bucket of a system is captured
ROOM = 400  # tokens of output
Row = dict[str, Any]
COLUMNS = ("shape", "rows", "length", "system", "round_ms", "tokens_per_round", "tokens_per_second", "times_plain")


class Oracle(Drafter):
    """Knows the language, and is wrong at a position with a chance that is known: drafts that cost nothing.

    Args:
        right: the chance that the continuation is among the drafted tokens of a position.
        depth: of the tree; what is left of its nodes are other tokens beside the continuation.
    """

    trees = True

    def __init__(self, language: Language, right: float, nodes: int, depth: int) -> None:
        self._successor = language.successor
        self._right, self._nodes, self._depth = right, nodes, depth
        self._chance = random.Random(0)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        return [self._draft(sequence.tokens[-1], budget) for sequence, budget in zip(sequences, budgets, strict=True)]

    def _draft(self, last: int, budget: Budget) -> Draft:
        nodes, depth = min(self._nodes, budget.nodes), min(self._depth, budget.depth)
        if nodes < 1 or depth < 1:
            return Draft()
        tokens, parents = [], []
        token, vocabulary = last, len(self._successor)
        for place in range(min(depth, nodes)):
            token = int(self._successor[token])
            if self._chance.random() >= self._right:
                token = self._chance.randrange(vocabulary)
            tokens.append(token)
            parents.append(place - 1)
        main = set(tokens)
        for node in range(len(tokens), nodes):
            parent = node % len(main) - 1 if len(main) else -1
            tokens.append(self._chance.randrange(vocabulary))
            parents.append(parent)
        return Draft(tuple(tokens), tuple(parents), source="oracle")


def time_table(run: Run) -> None:
    """Milliseconds of a round of every system, rows and length; the table follows as text."""
    table: list[Row] = []
    try:
        for name in run.shapes:
            for row in rows_of(run, name):
                table.append(row)
                run.record(**row)
                if "system" in row:
                    print(as_line(row), flush=True)
                if run.over:
                    return
            run.free()
    finally:
        print(as_text(table), flush=True)


def rows_of(run: Run, name: str) -> Iterator[Row]:
    shape = SHAPES[name]
    language = Language(shape.vocabulary)
    module = language.teach(make(shape, run.device, torch.bfloat16))
    for row in generated(run, name, module, language):
        yield row
    target = GraphedLlama.of(module, device=run.device)
    del module
    yield {"shape": name, "weights_gigabytes": 2 * shape.parameters / 1e9}
    for rows, count in ((1, 1), (1, 5), (1, 17), (1, 65), (8, 5)):
        yield {"shape": name, "pass": f"{rows} x {count}", "pass_ms": pass_ms(run, target, rows, count)}
    systems = systems_of(run, name, language)
    for length in LENGTHS[:1] if run.tiny else LENGTHS:
        for rows in ROWS[:2] if run.tiny else ROWS:
            plain = 0.0
            for system, (make_drafter, nodes) in systems.items():
                if run.over or (rows == ROWS[-1] and "1b" in system):
                    continue
                row = {"shape": name, "rows": rows, "length": length, "system": system}
                try:
                    found = times_of(run, target, make_drafter(), nodes, language, rows, length)
                except Exception as error:
                    yield row | {"right": False, "error": last_lines(error)}
                    run.free()
                    continue
                plain = plain or found["tokens_per_second"]
                yield row | found | {"times_plain": found["tokens_per_second"] / plain}
                run.free()


def systems_of(run: Run, name: str, language: Language) -> dict[str, tuple[Callable[[], Drafter | None], int]]:
    """Drafters, and how many tokens they draft."""

    def small(shape: Any, right: float) -> Model:
        found = replace(shape, vocabulary=len(language.cycle))
        return GraphedLlama.of(language.teach(make(found, run.device, torch.bfloat16), right), device=run.device)

    one_layer = replace(SHAPES[name], layers=1)
    good, fair = small(one_layer, 0.8), small(one_layer, 0.6)
    systems: dict[str, tuple[Callable[[], Drafter | None], int]] = {
        "plain": (lambda: None, 0),
        "one layer 0.8, chain of 4": (lambda: ModelDrafter(good), 4),
        "one layer 0.6, chain of 4": (lambda: ModelDrafter(fair), 4),
        "one layer 0.8, tree of 16": (lambda: ModelTreeDrafter(good, DynamicTree(4, 5, 4)), 16),
        "oracle 0.8, chain of 4": (lambda: Oracle(language, 0.8, 4, 4), 4),
        "oracle 0.8, tree of 16": (lambda: Oracle(language, 0.8, 16, 6), 16),
        "oracle 0.8, tree of 64": (lambda: Oracle(language, 0.8, 64, 10), 64),
    }
    if name == "8b":
        draft = small(SHAPES["1b"], 0.8)
        systems["1b 0.8, chain of 4"] = (lambda: ModelDrafter(draft), 4)
    return systems


def times_of(
    run: Run, target: Model, drafter: Drafter | None, nodes: int, language: Language, rows: int, length: int
) -> Row:
    """A situation of equal prompts, of which one is read and the others are adopted."""
    prompts = [language.prompt(length)] * rows
    situation = Situation.of(target, drafter, prompts, Fixed(nodes), capacity=length + ROOM)
    engine, records = situation.engine, situation.records
    for _ in range(SETTLING):
        engine.step()
    records.clear()
    seconds = statistics.median(run.seconds_of(engine.step, 0.25, most=24))
    emitted = statistics.mean(sum(len(part.tokens) for part in record.sequences) for record in records)
    parts = {
        part: 1000 * statistics.median(getattr(record, f"seconds_{part}") for record in records)
        for part in ("drafting", "verification", "elsewhere")
    }
    found: Row = {
        "round_ms": 1000 * seconds,
        "tokens_per_round": emitted / rows,
        "tokens_per_second": emitted / seconds,
        "parts_ms": parts,
    }
    return found


def pass_ms(run: Run, target: Model, rows: int, count: int) -> float:
    """One pass alone, after 256 cached tokens, once it is captured."""
    session = target.open(rows, 512)
    for row in range(rows):
        session.extend(Pass([row], [list(range(256))], wanted=[0]))
        session.keep(row, range(256))
    new = [list(range(count))] * rows

    def one_pass() -> None:
        session.extend(Pass(range(rows), new)).wait()
        for row in range(rows):
            session.truncate(row, 256)

    for _ in range(4):
        one_pass()
    return 1000 * statistics.median(run.seconds_of(one_pass, 0.1))


def generated(run: Run, name: str, module: Any, language: Language) -> Iterator[Row]:
    """transformers' own generate, eager and with a static cache, without cuDNN's plans for every length."""
    if not TRANSFORMERS:
        return
    tokens = 16 if run.tiny else 32
    settings: dict[str, dict[str, Any]] = {
        "transformers, eager": {},
        "transformers, static cache": {"cache_implementation": "static", "disable_compile": True},
    }
    for rows in ROWS[:1] if run.tiny else ROWS[:2]:
        prompts = [language.prompt(LENGTHS[0])] * rows
        for system, each in settings.items():
            if run.over:
                return
            row = {"shape": name, "rows": rows, "length": LENGTHS[0], "system": system}
            try:
                with attention_of_cudnn(False):
                    short, long = (
                        min(run.seconds_of(partial(generate, module, prompts, count, **each), 0.1, fewest=2))
                        for count in (2, tokens)
                    )
            except Exception as error:
                yield row | {"right": False, "error": last_lines(error)}
                continue
            seconds = max(long - short, 1e-9) / (tokens - 2)
            yield row | {"round_ms": 1000 * seconds, "tokens_per_round": 1.0, "tokens_per_second": rows / seconds}


def count_rounds(run: Run) -> None:
    """Kernels, launches and reads of a round, by the profiler; slows down all that the process does later."""
    for name in run.shapes:
        language = Language(SHAPES[name].vocabulary)
        target = GraphedLlama.of(language.teach(make(SHAPES[name], run.device, torch.bfloat16)), device=run.device)
        for rows in ROWS[:2]:
            for system, (make_drafter, nodes) in systems_of(run, name, language).items():
                if run.over:
                    return
                prompts = [language.prompt(LENGTHS[0])] * rows
                situation = Situation.of(target, make_drafter(), prompts, Fixed(nodes), capacity=LENGTHS[0] + ROOM)
                for _ in range(SETTLING):
                    situation.engine.step()
                run.record(shape=name, rows=rows, system=system, **device_work(run, situation.engine.step, 4))
        run.free()


def as_text(rows: Iterable[Row]) -> str:
    """The rows that took times, as a table."""
    lines = [COLUMNS, *([_cell(row.get(column, "")) for column in COLUMNS] for row in rows if "system" in row)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def as_line(row: Row) -> str:
    """One of them, while the others are still to come."""
    return "| " + " | ".join(_cell(row.get(column, "")) for column in COLUMNS) + " |"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
