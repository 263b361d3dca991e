"""A head that learns while nothing is asked changes no distribution, not even where it learned from texts of one seed.

`Recalling` learns a text by heart at once, so that what it drafts is what the same seed made before: where the noise
of the verdict is not keyed by what was learned, that shows. The learner of the package takes longer to learn so much;
it runs here as it does in a server, and its exchanges come in the middle of the sample.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, islice

import numpy as np
import pytest

from exactness import mutations
from exactness.draws import p_of_mistake
from exactness.statistics import THRESHOLD, Outcome, joint_distribution, p_of_stages
from outrider import (
    Drafter,
    Engine,
    JointDrafter,
    LookupDrafter,
    Request,
    SamplingParams,
    SuffixSource,
    TableModel,
    head_drafter,
)
from outrider.drafters.experience import experience_with
from outrider.drafters.heads.entries import LedgerEntries
from outrider.drafters.several.apart import Apart
from outrider.maths.rules import RuleName

torch = pytest.importorskip("torch")
from exactness import test_heads as heads  # noqa: E402 (a head of the tests needs PyTorch)
from outrider.drafters.heads.drafter import HeadDrafter  # noqa: E402
from outrider.training.heads.descent import DescentSettings  # noqa: E402
from outrider.training.idle import IdleLearner, IdleSettings  # noqa: E402
from tiny import heads as tiny_heads  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

TARGET = tiny_heads.ShownTable(TableModel.random(4, 1, spread=0.8, seed=51).table)
PROMPT = (3, 1, 2, 3, 1)
SAMPLING = SamplingParams(temperature=0.9)
LENGTH, LOOKAHEAD, DRAWS, ROWS, CAPACITY = 2, 3, 1_500, 32, 16
SURE_OF_IT = 6.0  # the logit of what came before, beside 0


class RecallingEntries(LedgerEntries):
    def __init__(self, followed: dict[tuple[int, ...], int], rows: int, capacity: int) -> None:
        super().__init__(rows, capacity)
        self._followed = followed

    def extend(self, rows, states, tokens, parents=None):
        self._ledger.extend(rows, tokens, parents)
        made = []
        for row, new in zip(rows, tokens, strict=True):
            nodes = len(self._ledger.parents(row))
            contexts = [tuple(self._ledger.context(row, node)) for node in range(nodes - len(new), nodes)]
            made += [[self._followed.get(context, -1)] for context in contexts]
        return np.array(made, dtype=np.float32)


class Recalling:
    """A HeadNetwork that expects what followed in the texts that it knows, and the Learner that teaches it."""

    ids = np.arange(4)
    layers = (1,)
    bytes_per_entry = 1

    def __init__(self) -> None:
        self.followed: dict[tuple[int, ...], int] = {}
        self.experience: tuple[int, ...] = ()
        self._texts: list[Sequence[int]] = []
        self._new: Recalling | None = None

    def open(self, rows, capacity):
        return RecallingEntries(self.followed, rows, capacity)

    def gathered(self, hidden):
        return np.array(hidden[0])

    def read(self, hidden):
        return hidden

    def passed_on(self, made):
        return made

    def logits(self, made):
        return np.where(np.arange(4) == np.asarray(made), np.float32(SURE_OF_IT), np.float32(0))

    def remember(self, tokens, prompt):
        self._texts.append(list(tokens))
        before = self.experience[0] if self.experience else 0
        self.experience = (experience_with(before, np.array(tokens, dtype=np.int64)),)

    def step(self):
        self._new = Recalling()
        for text in self._texts:
            # An entry is a token of the text; the first one is read with the second.
            self._new.followed.update({tuple(text[1:end]): text[end] for end in range(2, len(text))})
        return False

    def take(self):
        new, self._new = self._new, None
        return new


def recalling(trees: bool) -> Drafter:
    one = Recalling()
    return HeadDrafter(one, trees=trees, learner=one)


MAKERS: dict[str, Callable[[], Drafter]] = {
    "trees": lambda: recalling(trees=True),
    "chains": lambda: recalling(trees=False),
    "joint": lambda: JointDrafter(LookupDrafter([SuffixSource()], min_chance=0), recalling(trees=True)),
}


class Seconds:
    """Of many seeds the second text; the first one was learned from, by a head for this seed alone.

    The first one is decoded plainly, so that its tokens tell most of the noise.
    """

    def __init__(self, rule: RuleName, drafter: str) -> None:
        apart = Apart(MAKERS[drafter], most=ROWS)
        settings = {"lookahead": LOOKAHEAD, "rule": rule, "max_rows": ROWS, "capacity": CAPACITY}
        self._engine = Engine(TARGET, apart, **settings)
        self._seeds = count()
        self._counts: Counter[Outcome] = Counter()

    def p_value(self, *looks: float) -> float:
        return p_of_stages(self._first, joint_distribution(TARGET, PROMPT, LENGTH, SAMPLING), DRAWS, looks)

    def _first(self, draws: int) -> Counter[Outcome]:
        while (missing := draws - self._counts.total()) > 0:
            seeds = list(islice(self._seeds, min(ROWS, missing)))
            decode(self._engine, seeds, drafts=0)
            for _ in seeds:
                self._engine.rest()
            self._counts.update(decode(self._engine, seeds))
        return self._counts


def decode(engine: Engine, seeds: Sequence[int], drafts: int | None = None) -> list[Outcome]:
    """The first tokens of one text of each seed."""
    like = Request(PROMPT, LENGTH + 3, num_draft_tokens=drafts, detokenize=False)
    made = [engine.submit(replace(like, sampling=replace(SAMPLING, seed=seed), isolation=str(seed))) for seed in seeds]
    while not engine.idle:
        engine.step()
    assert [handle.error for handle in made] == [None] * len(made)
    return [tuple(handle.tokens[:LENGTH]) for handle in made]


CASES = [("token", "trees"), ("token", "chains"), ("token", "joint"), ("block", "chains")]


@pytest.mark.parametrize("rule, drafter", CASES)
def test_a_text_whose_head_learned_one_of_the_same_seed_has_the_targets_distribution(rule, drafter):
    assert Seconds(rule, drafter).p_value() > THRESHOLD


@pytest.mark.parametrize("rule, drafter", [("token", "trees"), ("token", "joint"), ("block", "chains")])
def test_with_noise_that_leaves_what_was_learned_out_of_its_key_it_has_not(rule, drafter):
    with mutations.experience_left_out_of_the_key():
        assert Seconds(rule, drafter).p_value(1 / 6, 1 / 4, 1 / 3, 1 / 2) < THRESHOLD


def learning(told: Callable[[str], object]) -> Engine:
    """An engine whose head is random at first, and learns with every wave of texts."""
    learns = IdleSettings(batch=4, steps=8, fewest=(8, 16), patience=1, descent=DescentSettings(depth=3, rate=1e-2))
    folder = heads.folder(0)
    learner = IdleLearner(folder, heads.TARGET, dtype="float32", settings=learns, told=told)
    drafter = head_drafter(folder, heads.TARGET, dtype="float32", learner=learner)
    return Engine(heads.TARGET, drafter, lookahead=4, max_rows=ROWS, capacity=32)


def test_texts_between_which_a_head_learns_have_the_targets_distribution():
    """Each seed comes twice, and the second text is counted: the head has learned from the first."""
    told: list[str] = []
    engine = learning(told.append)
    seeds, prompts, counts = count(), count(), Counter()

    def wave(seeds: Sequence[int], prompt: Sequence[int]) -> list[Outcome]:
        made = [engine.submit(Request(prompt, 8, SamplingParams(seed=seed), detokenize=False)) for seed in seeds]
        while not engine.idle:
            engine.step()
        return [tuple(each.tokens[:LENGTH]) for each in made]

    def first(draws: int) -> Counter[Outcome]:
        while (missing := draws - counts.total()) > 0:
            number = next(prompts)
            # Other prompts, for of one prompt the first answer alone is learned from; they end alike.
            for _ in range(3):
                wave(list(islice(seeds, 2)), (number % 6, next(prompts) % 6, number // 6 % 6, *heads.PROMPT))
            own = list(islice(seeds, min(ROWS, missing)))
            wave(own, heads.PROMPT)
            for _ in range(30):
                engine.rest()
            counts.update(wave(own, heads.PROMPT))
        return counts

    truth = joint_distribution(heads.TARGET, heads.PROMPT, LENGTH, SamplingParams())
    assert p_of_stages(first, truth, 800) > THRESHOLD
    assert len(told) >= 2


def test_under_coupled_every_text_is_that_of_plain_decoding_whatever_was_learned():
    told: list[str] = []
    engine = learning(told.append)

    def texts(drafts: int | None) -> list[list[int]]:
        made = [
            engine.submit(
                Request(
                    (seed % 6, seed // 6 % 6, *heads.PROMPT),
                    12,
                    SamplingParams(seed=seed),
                    rule="coupled",
                    num_draft_tokens=drafts,
                    detokenize=False,
                )
            )
            for seed in range(16)
        ]
        while not engine.idle:
            engine.step()
        return [each.tokens for each in made]

    plain = texts(0)
    for _ in range(2):
        for _ in range(60):
            engine.rest()
        assert texts(None) == plain
    assert told


@pytest.mark.parametrize("drafter", ["trees", "chains"])
def test_a_head_that_is_exchanged_between_a_draw_and_its_q_is_found(drafter):
    scenario = heads.Scenario(drafter, lookahead=4, draws=3_000)
    with mutations.head_exchanged_between_a_draw_and_its_q(heads.trained()):
        assert p_of_mistake(scenario.open(), scenario.truth(), scenario.draws) < THRESHOLD
