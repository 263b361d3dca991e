"""How long passes take, in several models interleaved: tokens after a text, several texts at once, a prompt."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from outrider.runtimes.base import Model, Pass, Session

CACHED = 128  # tokens of the text before
PROMPT = 512
ROWS = 8

Work = Callable[[], object]


def works_of(model: Model, counts: Sequence[int]) -> dict[str, Work]:
    """What is timed: scoring so many tokens, giving ROWS texts a token each, reading a prompt."""
    session = model.open(ROWS, CACHED + max(*counts, PROMPT))
    for row in range(ROWS):
        session.extend(Pass([row], [range(100, 100 + CACHED)], wanted=[0])).wait()
        session.keep(row, range(CACHED))
    every = list(range(ROWS))
    works: dict[str, Work] = {str(count): _scoring(session, [0], count) for count in counts}
    works[f"{ROWS} texts"] = _scoring(session, every, 1)
    works[f"prompt of {PROMPT}"] = lambda: _scoring(model.open(1, PROMPT), [0], PROMPT, wanted=1)()
    return works


def _scoring(session: Session, rows: list[int], count: int, wanted: int | None = None) -> Work:
    tokens = [[(7 * row + 13 * i) % 997 for i in range(count)] for row in rows]
    work = Pass(rows, tokens, wanted=None if wanted is None else [wanted] * len(rows))

    def score() -> None:
        session.extend(work).wait()
        for row in rows:
            session.keep(row, [])

    return score


def time_passes(models: Mapping[str, Model], counts: Sequence[int], repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each work in each model, the medians of interleaved repeats."""
    works = {name: works_of(model, counts) for name, model in models.items()}
    seconds: dict[str, dict[str, list[float]]] = {name: {work: [] for work in of} for name, of in works.items()}
    for turn in range(repeats + 1):
        for work in next(iter(works.values())):
            for name, of in works.items():
                started = time.perf_counter()
                of[work]()
                if turn:  # the first one warms up
                    seconds[name][work].append(time.perf_counter() - started)
    return {name: {work: 1000 * statistics.median(each) for work, each in of.items()} for name, of in seconds.items()}
