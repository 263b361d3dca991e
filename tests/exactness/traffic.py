"""Requests that come, are served side by side, and go, as random numbers say that never see a token.

What is counted of a text are its first tokens. A text is counted if it was meant to get so far from the start; texts
that are cancelled early take up rows and time, and are not counted whatever they held: how far a text has come after
some rounds depends on its tokens, so that counting those that came far would be a biased choice.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from exactness.statistics import Outcome, joint_distribution, p_value
from outrider import Engine, Handle, Request, RoundRecord, SamplingParams, TableModel

LONGEST_OVERTIME = 5  # tokens that a text may have beyond those that are counted
MOST_PATIENT = 6  # rounds after which the early leavers have gone
EARLY_LEAVERS = 0.2  # for each counted text
ARRIVAL = 0.6  # the chance that one more request comes before a round
LEAVES_WHEN_COUNTED = 0.3  # the others stay to the end of their text

Observer = Callable[[RoundRecord], None]


@dataclass(frozen=True)
class Kind:
    """What requests of one kind have in common; they differ in seed and length."""

    prompt: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop_token_ids: frozenset[int] = frozenset()
    drafter: str | None = None
    rule: str | None = None

    def expected(self, target: TableModel, length: int) -> dict[Outcome, float]:
        """The probability of every possible beginning: `length` tokens, or fewer up to a stop."""
        expected: Counter[Outcome] = Counter()
        for output, probability in joint_distribution(target, self.prompt, length, self.sampling).items():
            stops = [place for place, token in enumerate(output) if token in self.stop_token_ids]
            expected[output[: stops[0] + 1] if stops else output] += probability
        return dict(expected)


@dataclass
class _Visit:
    kind: int
    seed: int
    max_tokens: int
    leaves_after: int | None = None  # rounds
    leaves_when_counted: bool = False
    handle: Handle | None = None

    @property
    def counted(self) -> bool:
        return self.leaves_after is None


@dataclass
class Outputs:
    """The beginnings of the counted texts of every kind, two neighbours in time after one another, and their seeds."""

    kinds: Sequence[Kind]
    length: int
    of_kind: list[list[Outcome]]
    seeds: list[list[int]]

    def p_values(self, target: TableModel) -> list[float]:
        """For each kind: do its texts have their own distribution?"""
        return [
            p_value(Counter(outputs), kind.expected(target, self.length))
            for kind, outputs in zip(self.kinds, self.of_kind, strict=True)
        ]

    def p_value_of_neighbours(self, target: TableModel) -> float:
        """Are the first tokens of two texts side by side independent?"""
        counts: Counter[Outcome] = Counter()
        expected: dict[Outcome, float] = {}
        pairs = sum(len(outputs) // 2 for outputs in self.of_kind)
        for number, (kind, outputs) in enumerate(zip(self.kinds, self.of_kind, strict=True)):
            share = len(outputs) // 2 / pairs
            first = kind.expected(target, 1)
            for (one,), p in first.items():
                for (other,), q in first.items():
                    expected[number, one, other] = share * p * q
            for one, other in zip(outputs[::2], outputs[1::2], strict=True):
                counts[number, one[0], other[0]] += 1
        return p_value(counts, expected)

    def smallest_p_value(self, target: TableModel) -> float:
        return min(*self.p_values(target), self.p_value_of_neighbours(target))


def serve(
    open_engine: Callable[[], Engine], kinds: Sequence[Kind], length: int, draws: int, *, engines: int = 1
) -> Outputs:
    """Count `draws` texts of each kind, an even number, dealt out to several engines one after the other."""
    generator = random.Random(0)
    pairs = [kind for kind in range(len(kinds)) for _ in range(draws // 2)]
    groups = [[_visit(generator, kind, length, 2 * pair + half) for half in (0, 1)] for pair, kind in enumerate(pairs)]
    for seed in range(2 * len(pairs), 2 * len(pairs) + round(EARLY_LEAVERS * len(kinds) * draws)):
        early = _visit(generator, generator.randrange(len(kinds)), length, seed)
        early.leaves_after = generator.randint(0, MOST_PATIENT)
        groups.append([early])
    generator.shuffle(groups)
    of_kind: list[list[Outcome]] = [[] for _ in kinds]
    seeds: list[list[int]] = [[] for _ in kinds]
    for number in range(engines):
        visits = [visit for group in groups[number::engines] for visit in group]
        _serve(open_engine(), visits, kinds, length, generator)
        for visit in visits:
            if visit.counted:
                of_kind[visit.kind].append(tuple(visit.handle.tokens[:length]))
                seeds[visit.kind].append(visit.seed)
    return Outputs(kinds, length, of_kind, seeds)


def _visit(generator: random.Random, kind: int, length: int, seed: int) -> _Visit:
    return _Visit(
        kind,
        seed,
        length + generator.randint(0, LONGEST_OVERTIME),
        leaves_when_counted=generator.random() < LEAVES_WHEN_COUNTED,
    )


def _serve(
    engine: Engine, visits: Sequence[_Visit], kinds: Sequence[Kind], length: int, generator: random.Random
) -> None:
    coming = list(reversed(visits))
    there: list[tuple[_Visit, int]] = []
    rounds = 0
    while coming or there:
        while coming and engine.has_room and generator.random() < ARRIVAL:
            visit = coming.pop()
            kind = kinds[visit.kind]
            sampling = replace(kind.sampling, seed=visit.seed)
            request = Request(
                kind.prompt,
                visit.max_tokens,
                sampling,
                stop_token_ids=kind.stop_token_ids,
                drafter=kind.drafter,
                rule=kind.rule,
            )
            visit.handle = engine.submit(request)
            there.append((visit, rounds))
        for visit, came in there:
            if visit.leaves_after == rounds - came or (
                visit.leaves_when_counted and visit.counted and len(visit.handle.tokens) >= length
            ):
                visit.handle.cancel()
        engine.step()
        rounds += 1
        for visit, _ in there:
            if visit.handle.error is not None:
                raise visit.handle.error
        there = [(visit, came) for visit, came in there if not visit.handle.finish_reason]
