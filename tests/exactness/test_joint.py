"""One tree from lookups and a head: chosen and drawn tokens mix exactly, and mistakes in the mixture are found.

The head is random or trained on the target. Half of what the lookups know is wrong for the target, so that most drafts
are rejected. Questions to the head have prices in some rounds, and a clock that makes noise.
"""

from contextlib import AbstractContextManager
from itertools import count
from unittest.mock import patch

import numpy as np
import pytest

from exactness import mutations
from exactness.draws import Draws, p_of_mistake, p_of_output, plain_texts, texts_of
from exactness.policies import Sometimes
from exactness.statistics import THRESHOLD, joint_distribution
from exactness.traffic import Kind, serve_in_stages
from outrider import (
    Budget,
    Engine,
    JointDrafter,
    LookaheadPolicy,
    LookupDrafter,
    RecyclingSource,
    SamplingParams,
    SpeculativeDecoder,
    SuffixSource,
)
from outrider.drafters.heads.entries import LedgerEntries
from outrider.drafters.lookup.source import Foresight, Source
from outrider.maths.budget import Prices

torch = pytest.importorskip("torch")
from exactness import test_heads as heads  # noqa: E402 (a head of the tests needs PyTorch)
from outrider.drafters.heads.drafter import HeadDrafter  # noqa: E402
from outrider.drafters.heads.vocabulary import DraftVocabulary  # noqa: E402
from outrider.drafters.joint import growth  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

TARGET, PROMPT, SAMPLINGS = heads.TARGET, heads.PROMPT, heads.SAMPLINGS
STEEP = tuple(Prices(totals, 4.0) for totals in ((0.0, 0.05, 0.15, 0.3, 0.5, 0.8, 1.2), (0.0, 0.2, 0.5, 1.0)))


class Priced(LookaheadPolicy):
    """Tokens and seconds cost something in some rounds."""

    def __init__(self, most: int = 6) -> None:
        self._rounds = count()
        self._most = most

    def plan(self, sequences):
        return [self._most for _ in sequences]

    def budgets(self, sequences):
        prices = (*STEEP, Prices())
        return [Budget(self._most, self._most, prices[next(self._rounds) % len(prices)]) for _ in sequences]


def clock():
    """Seconds of a noisy machine: between 0 and 0.05 pass from one look to the next."""
    generator = np.random.default_rng(0)
    now = 0.0

    def look() -> float:
        nonlocal now
        now += float(generator.uniform(0, 0.05))
        return now

    return look


def joint(seed: int = 2, *, trees: bool = True, trained: bool = False, **settings) -> JointDrafter:
    lookups = LookupDrafter([SuffixSource(), RecyclingSource()], trees=trees)
    head = HeadDrafter(heads.trained(), trees=trees) if trained else heads.head(seed, trees=trees, **settings)
    return JointDrafter(lookups, head, clock=clock())


DRAFTERS = {
    "trees": joint,
    "chosen": lambda: joint(greedy=True),
    "trained": lambda: joint(trained=True),
    "chains": lambda: joint(trees=False),
    "trained-chains": lambda: joint(trees=False, trained=True),
}


def scenario_of(drafter: str, rule: str = "token", sampling: str = "1", lookahead=6, draws: int = 600):
    heads.DRAFTERS.setdefault(f"joint-{drafter}", DRAFTERS[drafter])
    return heads.Scenario(f"joint-{drafter}", rule, sampling, lookahead, draws)


SCENARIOS = {
    "trees-0.7": ("trees", "token", "0.7"),
    "chosen-bias": ("chosen", "token", "bias"),
    "trained-priced": ("trained", "token", "1", Priced),
    "trees-sometimes": ("trees", "token", "1", Sometimes),
    "chains": ("chains", "token", "bias", 4),
    "chains-block": ("chains", "block", "1", 4),
    "trained-chains-block": ("trained-chains", "block", "0.7", lambda: Priced(4)),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_output_has_the_targets_distribution(name):
    drafter, *settings = SCENARIOS[name]
    scenario = scenario_of(drafter, *[each() if callable(each) else each for each in settings])
    assert p_of_output(scenario.open(), scenario.truth(), scenario.draws) > THRESHOLD


@pytest.mark.parametrize("drafter", ["trees", "chains"])
def test_under_coupled_every_text_is_that_of_plain_decoding(drafter):
    decoder = SpeculativeDecoder(DRAFTERS[drafter](), TARGET, Priced(), rule="coupled")
    assert texts_of(decoder, PROMPT, SAMPLINGS["1"]).texts == plain_texts(TARGET, PROMPT, SAMPLINGS["1"])


def test_texts_side_by_side_are_exact_and_independent():
    kinds = [Kind((1,)), Kind((0, 2, 1, 1, 3, 0), SamplingParams(temperature=0.7, top_p=0.9))]

    engine = Engine(TARGET, joint(), lookahead=Sometimes(), max_rows=4, capacity=32)
    assert serve_in_stages(engine, kinds, 2, 160, TARGET).smallest_p_value(TARGET) > THRESHOLD


def q_not_renormalised() -> AbstractContextManager:
    """As if q were the head's distribution over the whole vocabulary, of which a part cannot be drafted."""
    spread = DraftVocabulary.spread
    return patch.object(DraftVocabulary, "spread", lambda self, q: 0.6 * spread(self, q))


def q_of_the_other_source() -> AbstractContextManager:
    """A token that was looked up is judged as if the head had drawn it."""
    draft = growth.JointTree.draft

    def mistaken(self, terms):
        if self.q:
            self.q_rows = [max(row, 0) for row in self.q_rows]
        return draft(self, terms)

    return patch.object(growth.JointTree, "draft", mistaken)


class Knowing(Source):
    """Knows the target, so that its tokens often stand before drawn ones; trees grow in Python beside it."""

    def foresee(self, cursor, context):
        weights = np.exp(np.asarray(TARGET.table)[context[-1]])
        shares = weights / weights.sum()
        best = np.argsort(-shares)[:3]
        return Foresight([(int(token), float(shares[token])) for token in best], float(1 - shares[best].sum()), {})


heads.DRAFTERS["joint-knowing"] = lambda: JointDrafter(LookupDrafter([Knowing()]), heads.head(2), clock=clock())
NO_MISTAKE = heads.Scenario("joint-knowing", lookahead=6, draws=4_000)


@pytest.mark.parametrize("mistake", [q_not_renormalised, q_of_the_other_source])
def test_a_mistake_in_the_mixture_is_found(mistake):
    with mistake():
        assert p_of_mistake(NO_MISTAKE.open(), NO_MISTAKE.truth(), NO_MISTAKE.draws) < THRESHOLD


def test_without_a_mistake_there_is_none():
    assert p_of_output(NO_MISTAKE.open(), NO_MISTAKE.truth(), 600) > THRESHOLD


# Mistakes at the children that are drawn one after the other. What they shift is worked out before it is measured: with
# a head that is nearly always wrong, what is left of q after its first token counts; with one that is right, that no
# drawn token is missing.

WRONG = np.array([0.9, 0.07, 0.03]), np.array([0.05, 0.25, 0.7])  # q, p
RIGHT = np.array([0.5, 0.3, 0.2]), np.array([0.5, 0.3, 0.2])
START = (0, 0, 0)  # nothing to look up after the other tokens


class Mute(Source):
    """Knows nothing: all children are drawn. Trees grow in Python beside it."""

    def foresee(self, cursor, context):
        return Foresight([], 1.0, {})


class SameEntries(LedgerEntries):
    def extend(self, rows, states, tokens, parents=None):
        self._ledger.extend(rows, tokens, parents)
        return np.zeros((sum(map(len, tokens)), 1), dtype=np.float32)


class SameHead:
    """A HeadNetwork that always expects the same."""

    ids = np.arange(3)
    layers = (1,)
    bytes_per_entry = 1

    def __init__(self, q):
        self._logits = np.log(q).astype(np.float32)

    def open(self, rows, capacity):
        return SameEntries(rows, capacity)

    def gathered(self, hidden):
        return np.array(hidden[0])

    def read(self, hidden):
        return hidden

    def passed_on(self, made):
        return made

    def logits(self, made):
        return np.tile(self._logits, (len(made), 1))


def law_of_next(p, q, children, mistaken=False, taken=()):
    """The distribution of the next token, where so many children are drawn from q without replacement and tried.

    Args:
        mistaken: the rule is told what is left of q, and not its distribution.
    """
    left = np.where(np.isin(np.arange(len(q)), taken), 0, q)
    if not children or not left.sum():
        return p
    drawn = left / left.sum()
    judged = left if mistaken else drawn
    law = np.zeros(len(p))
    for token in np.flatnonzero(drawn):
        accepted = min(1.0, p[token] / judged[token])
        law[token] += drawn[token] * accepted
        rest = np.maximum(p - judged, 0)
        if accepted < 1:
            after = law_of_next(rest / rest.sum(), q, children - 1, mistaken, (*taken, token))
            law += drawn[token] * (1 - accepted) * after
    return law


def beside(source, head) -> tuple:
    """A drafter beside a source, and its target."""
    q, p = head
    target = heads.tiny_heads.ShownTable(np.log(p).astype(np.float32))
    lookups = LookupDrafter([source], min_chance=0)
    return JointDrafter(lookups, HeadDrafter(SameHead(q)), clock=clock()), target


def draws_of(source, head) -> tuple[Draws, dict]:
    drafter, target = beside(source, head)
    draws = Draws(SpeculativeDecoder(drafter, target, 4), START, 2, SamplingParams(), max_tokens=5)
    return draws, joint_distribution(target, START, 2, SamplingParams())


FOUND = {
    "leftover": (WRONG, mutations.leftover_q_not_renormalised),
    "dropped": (RIGHT, mutations.drawn_token_0_dropped_from_the_tree),
}
SOURCES = {"alone": Mute, "compiled": SuffixSource}


def test_what_the_mistakes_shift():
    q, p = WRONG
    assert abs(law_of_next(p, q, 2) - p).max() < 1e-12
    assert abs(law_of_next(p, q, 2, mistaken=True) - p).max() > 0.35
    q, p = RIGHT
    # Every drawn token is accepted; where token 0 was drawn and dropped, the target decides.
    assert abs(q[0] * p + np.array([0, *q[1:]]) - p).max() == pytest.approx(0.25)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", FOUND)
def test_a_mistake_at_drawn_children_is_found(name, source):
    head, mistake = FOUND[name]
    with mistake():
        draws, truth = draws_of(SOURCES[source](), head)
        assert p_of_mistake(draws, truth, 1_500) < THRESHOLD


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", FOUND)
def test_children_drawn_one_after_the_other_are_exact(name, source):
    draws, truth = draws_of(SOURCES[source](), FOUND[name][0])
    assert p_of_output(draws, truth, 900) > THRESHOLD
