"""Requests that come, are served side by side, and go, as random numbers say that never see a token.

What is counted of a text are its first tokens. A text is counted if it was meant to get so far from the start; texts
that are cancelled early take up rows and time, and are not counted whatever they held: how far a text has come after
some rounds depends on its tokens, so that counting those that came far would be a biased choice.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from exactness.statistics import ALL_DRAWS, END, STAGES, SURE, Outcome, joint_distribution, p_value
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

    def p_values(self, target: TableModel, share: float = 1.0) -> list[float]:
        """For each kind: do its texts have their own distribution?

        Args:
            share: of a larger sample (see `p_value`).
        """
        return [
            p_value(Counter(outputs), kind.expected(target, self.length), share)
            for kind, outputs in zip(self.kinds, self.of_kind, strict=True)
        ]

    def p_value_of_neighbours(self, target: TableModel, share: float = 1.0) -> float:
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
        return p_value(counts, expected, share)

    def smallest_p_value(self, target: TableModel, share: float = 1.0) -> float:
        return min(*self.p_values(target, share), self.p_value_of_neighbours(target, share))


class Traffic:
    """Requests of several kinds, so many at a time.

    Attributes:
        outputs: of all requests so far.
    """

    def __init__(self, open_engine: Callable[[], Engine], kinds: Sequence[Kind], length: int) -> None:
        self.outputs = Outputs(kinds, length, [[] for _ in kinds], [[] for _ in kinds])
        self._open_engine = open_engine
        self._generator = random.Random(0)
        self._next_seed = 0

    def more(self, draws: int, engines: int = 1) -> Outputs:
        """Count `draws` more texts of each kind, an even number, dealt out to engines one after the other."""
        groups = self._groups(draws)
        outputs = self.outputs
        for number in range(engines):
            visits = [visit for group in groups[number::engines] for visit in group]
            _serve(self._open_engine(), visits, outputs.kinds, outputs.length, self._generator)
            for visit in visits:
                if visit.counted:
                    outputs.of_kind[visit.kind].append(tuple(visit.handle.tokens[: outputs.length]))
                    outputs.seeds[visit.kind].append(visit.seed)
        return outputs

    def _groups(self, draws: int) -> list[list[_Visit]]:
        """Pairs of texts that are counted, and single ones that leave early."""
        kinds, generator = range(len(self.outputs.kinds)), self._generator
        groups = [[self._visit(kind), self._visit(kind)] for kind in kinds for _ in range(draws // 2)]
        for _ in range(round(EARLY_LEAVERS * len(kinds) * draws)):
            early = self._visit(generator.choice(kinds))
            early.leaves_after = generator.randint(0, MOST_PATIENT)
            groups.append([early])
        generator.shuffle(groups)
        return groups

    def _visit(self, kind: int) -> _Visit:
        seed, self._next_seed = self._next_seed, self._next_seed + 1
        return _Visit(
            kind,
            seed,
            self.outputs.length + self._generator.randint(0, LONGEST_OVERTIME),
            leaves_when_counted=self._generator.random() < LEAVES_WHEN_COUNTED,
        )


def serve(
    open_engine: Callable[[], Engine], kinds: Sequence[Kind], length: int, draws: int, *, engines: int = 1
) -> Outputs:
    """Count `draws` texts of each kind, an even number, dealt out to several engines one after the other."""
    return Traffic(open_engine, kinds, length).more(draws, engines)


def serve_in_stages(engine: Engine, kinds: Sequence[Kind], length: int, draws: int, target: TableModel) -> Outputs:
    """As `serve`, until all p-values say that the texts fit (see statistics.py), and else to the end."""
    traffic = Traffic(lambda: engine, kinds, length)
    texts = 0
    for share, above in (*STAGES, (END, SURE)):
        texts_by_then = 2 * round(share * draws / 2)
        outputs = traffic.more(texts_by_then - texts)
        texts = texts_by_then
        # There are several p-values, and each is low by chance: half of the limit for a single one.
        if not ALL_DRAWS and outputs.smallest_p_value(target, share) > above / 2:
            break
    return outputs


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
