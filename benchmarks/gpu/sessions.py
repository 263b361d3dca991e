"""Sessions: every kind of pass against a fresh prefill of the model by itself."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from benchmarks.gpu.models import CHECKED, Truth, extend, feed, make, opened, some_text
from benchmarks.gpu.run import Run, last_lines
from outrider import Model


def paths_of(parents: Sequence[int]) -> list[list[int]]:
    """Of each node of a tree the nodes on its root path, itself included."""
    paths: list[list[int]] = []
    for node, parent in enumerate(parents):
        paths.append([*(paths[parent] if parent >= 0 else []), node])
    return paths


def check_chain(model: Model, truth: Truth) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    text = some_text(truth.vocabulary, 60, 1)
    session = model.open(1, 128)
    feed(session, 0, text[:41])
    yield extend(session, [0], [text[41:]]), truth(text, 19)


def check_ragged(model: Model, truth: Truth) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for rows in ((0, 1, 2), (3, 0, 1)):  # side by side in the cache, and not
        texts = [some_text(truth.vocabulary, length, length) for length in (130, 4, 57)]
        session = model.open(4, 256)
        for row, text in zip(rows, texts, strict=True):
            feed(session, row, text)
        new = [some_text(truth.vocabulary, length, 7 * length) for length in (1, 3, 2)]
        expected = [truth(text + more, len(more)) for text, more in zip(texts, new, strict=True)]
        yield extend(session, rows, new), torch.cat(expected)
        for row, more in zip(rows, new, strict=True):
            session.keep(row, range(len(more)))
        one_each = [[5], [6], [7]]
        expected = [truth(t + n + o) for t, n, o in zip(texts, new, one_each, strict=True)]
        yield extend(session, rows, one_each), torch.cat(expected)


def check_tree(model: Model, truth: Truth) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    choose = random.Random(3)
    stem = some_text(truth.vocabulary, 37, 2)
    for nodes in (7, 32, 64):
        parents = [choose.randint(-1, node - 1) for node in range(nodes)]
        tokens = some_text(truth.vocabulary, nodes, nodes)
        session = model.open(2, 256)
        feed(session, 1, stem)
        found = extend(session, [1], [tokens], [parents])
        paths = paths_of(parents)
        yield found, torch.cat([truth(stem + [tokens[node] for node in path]) for path in paths])
        kept = max(paths, key=len)
        session.keep(1, kept)
        more = some_text(truth.vocabulary, 3, 9)
        yield extend(session, [1], [more]), truth([*stem, *(tokens[node] for node in kept), *more], 3)


def check_truncate(model: Model, truth: Truth) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    text, more = some_text(truth.vocabulary, 50, 4), some_text(truth.vocabulary, 5, 5)
    session = model.open(1, 128)
    feed(session, 0, text)
    extend(session, [0], [more])  # tentative, and dropped
    session.truncate(0, 20)
    yield extend(session, [0], [more]), truth(text[:20] + more, 5)
    session.release(0)
    yield extend(session, [0], [more]), truth(more, 5)


def check_long(model: Model, truth: Truth) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    text, other = some_text(truth.vocabulary, 1100, 6), some_text(truth.vocabulary, 700, 7)
    session = model.open(2, 1200)
    feed(session, 0, text)
    feed(session, 1, other)
    new = [[1, 2, 3, 4, 5], [6]]
    yield extend(session, [0, 1], new), torch.cat([truth(text + new[0], 5), truth(other + new[1])])


def check_any_course(model: Model, truth: Truth) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows, trees, kept branches and truncations as they come."""
    choose = random.Random(8)
    session = model.open(3, 256)
    held: list[list[int]] = [[], [], []]
    for _ in range(25):
        rows = sorted(choose.sample(range(3), choose.randint(1, 3)))
        tokens = [choose.choices(range(truth.vocabulary), k=choose.randint(1, 9)) for _ in rows]
        parents = [[choose.choice((node - 1, choose.randint(-1, node - 1))) for node in range(len(t))] for t in tokens]
        found = extend(session, rows, tokens, parents)
        first = 0
        for row, new, above in zip(rows, tokens, parents, strict=True):
            paths = paths_of(above)
            node = choose.randrange(len(new))
            at = first + node
            yield found[at : at + 1], truth(held[row] + [new[place] for place in paths[node]])
            first += len(new)
            kept = choose.choice([[], *paths])
            session.keep(row, kept)
            held[row] += [new[place] for place in kept]
            if choose.random() < 0.2:
                held[row] = held[row][: choose.randint(0, len(held[row]))]
                session.truncate(row, len(held[row]))


CHECKS = {
    "chain": check_chain,
    "ragged rows": check_ragged,
    "tree, kept branch": check_tree,
    "truncate, release": check_truncate,
    "1,100 and 700 tokens": check_long,
    "any course": check_any_course,
}
# Shares of the largest logit, as in tests/runtimes/test_sessions.py: some ten roundings.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 8e-2, torch.float16: 1e-2}


def check_sessions(run: Run) -> None:
    """Every kind of pass against a fresh prefill, in three precisions, heads of 32, 64 and 128 numbers."""
    for heads, key_heads in ((8, 2), (4, 2), (2, 1)):
        shape = replace(CHECKED, heads=heads, key_heads=key_heads)
        for dtype, tolerance in TOLERANCES.items():
            module = make(shape, run.device, dtype, spread=0.06)
            model, truth = opened(run, module, apart=True), Truth(module)
            for name, check in CHECKS.items():
                if run.over:
                    return
                worst = 0.0
                try:
                    for found, expected in check(model, truth):
                        error = (found.float() - expected).abs().max() / expected.abs().max()
                        worst = max(worst, float(error)) if bool(error == error) else float("nan")
                except Exception as error:
                    run.record(check=name, dtype=str(dtype), head=256 // heads, right=False, error=last_lines(error))
                    continue
                run.record(check=name, dtype=str(dtype), head=256 // heads, right=worst < tolerance, error=worst)
    check_bits(run)


def check_bits(run: Run) -> None:
    """Whether a token's logits are the same bits in a draft, or beside other rows, as alone."""
    for dtype in TOLERANCES:
        module = make(CHECKED, run.device, dtype, spread=0.06)
        model = opened(run, module)
        text, new = some_text(1000, 130, 1), some_text(1000, 16, 2)
        alone = []
        session = model.open(8, 256)
        for row in range(8):
            feed(session, row, text)
        for token in new:
            alone.append(extend(session, [0], [[token]])[0].clone())
            session.keep(0, [0])
        session.truncate(0, len(text))
        expected = torch.stack(alone)
        for count in (2, 4, 8, 16):
            found = extend(session, [0], [new[:count]])
            session.truncate(0, len(text))
            report_bits(run, f"draft of {count}", dtype, found, expected[:count])
        found = extend(session, range(8), [[new[0]]] * 8)
        report_bits(run, "8 rows", dtype, found, expected[:1].expand(8, -1))


def report_bits(run: Run, what: str, dtype: torch.dtype, found: torch.Tensor, expected: torch.Tensor) -> None:
    same = (found == expected).float().mean(dim=-1)
    run.record(
        bits=what,
        dtype=str(dtype),
        tokens_equal=int((same == 1).sum()),
        tokens=len(found),
        largest_difference=float((found.float() - expected.float()).abs().max()),
        choices_equal=int((found.argmax(-1) == expected.argmax(-1)).sum()),
    )
