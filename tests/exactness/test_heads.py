"""Draft heads: whatever they say, the output has the target's distribution. Mistakes in their q are found.

The target is a table that shows hidden states. Random heads know nothing of it, so that most drafts are rejected; one
is trained on it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from unittest.mock import patch

import pytest

from exactness.draws import Draws, p_of_mistake, p_of_output, plain_texts, texts_of
from exactness.policies import Priced, Sometimes
from exactness.statistics import THRESHOLD, Outcome, joint_distribution
from exactness.traffic import Kind, serve_in_stages
from outrider import (
    Drafter,
    DynamicTree,
    Engine,
    LookaheadPolicy,
    Merged,
    SamplingParams,
    SpeculativeDecoder,
    StaticTree,
    TableModel,
    head_drafter,
    lookup_drafter,
)

torch = pytest.importorskip("torch")
from outrider.drafters.heads.dflash import DFlashHead  # noqa: E402
from outrider.drafters.heads.drafter import HeadDrafter  # noqa: E402 (a head of the tests needs PyTorch)
from outrider.drafters.heads.mtp import MtpHead  # noqa: E402
from outrider.drafters.heads.vocabulary import DraftVocabulary  # noqa: E402
from tiny import heads as tiny_heads  # noqa: E402
from tiny import transformers_heads  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

VOCABULARY = 6
DRAFTED = (0, 2, 3, 5)
PROMPT = (3, 1, 2, 3, 1, 4, 3, 1)
TARGET = tiny_heads.ShownTable(TableModel.random(VOCABULARY, 1, spread=1.2, seed=71).table)
STEEP = (0.0, 0.25, 0.6, 1.0, 1.4, 1.9)


@cache
def folder(seed: int):
    import tempfile
    from pathlib import Path

    place = Path(tempfile.mkdtemp()) / "head"
    return tiny_heads.write(
        place, vocab_size=VOCABULARY, drafted=DRAFTED, seed=seed, options={"fc_norm": True, "norm_output": True}
    )


@cache
def trained():
    """A head that learned from texts of the target, for a second or two."""
    return tiny_heads.trained(TARGET, DRAFTED, steps=60)


def head(seed: int = 0, **settings) -> Drafter:
    return head_drafter(folder(seed), TARGET, dtype="float32", **settings)


def chains_of(network) -> Drafter:
    return HeadDrafter(network, trees=False, deepest=network.deepest)


@cache
def mtp_layers():
    module = transformers_heads.glm(
        VOCABULARY,
        2,
        seed=0,
        intermediate_size=8,
        moe_intermediate_size=8,
        num_attention_heads=2,
        n_routed_experts=2,
        num_experts_per_tok=1,
    )
    return MtpHead(transformers_heads.mtp_model(module, 2), TARGET.traits.layers, VOCABULARY)


@cache
def dflash():
    torch.manual_seed(0)
    output = torch.nn.Linear(tiny_heads.SIZE, VOCABULARY, bias=False).requires_grad_(False)
    torch.nn.init.normal_(output.weight, std=0.4)
    embedding = torch.from_numpy(TARGET.embedding())
    return DFlashHead(transformers_heads.dflash_model((0, 2), mask=1), embedding, output, VOCABULARY)


DRAFTERS: dict[str, Callable[[], Drafter]] = {
    "trees": lambda: head(shape=DynamicTree(3, 3, 2)),
    "static": lambda: head(1, shape=StaticTree((3, 2, 1))),
    "chains": lambda: head(trees=False),
    "chosen": lambda: head(greedy=True),
    "trained": lambda: HeadDrafter(trained()),
    "trained-chains": lambda: HeadDrafter(trained(), trees=False),
    "merged": lambda: Merged([lookup_drafter(TARGET), head(2)], rests=False),
    "mtp": lambda: chains_of(mtp_layers()),
    "dflash": lambda: chains_of(dflash()),
    "merged-chosen": lambda: Merged([lookup_drafter(TARGET), head(2, greedy=True)], rests=False),
}
SAMPLINGS = {
    "1": SamplingParams(),
    "0.7": SamplingParams(temperature=0.7, repetition_penalty=1.3),
    "bias": SamplingParams(temperature=1.4, top_p=0.9, logit_bias={2: 1.0, 1: 0.5}),
}


@dataclass(frozen=True)
class Scenario:
    drafter: str
    rule: str = "token"
    sampling: str = "1"
    lookahead: int | LookaheadPolicy = 6
    draws: int = 600

    def open(self) -> Draws:
        decoder = SpeculativeDecoder(DRAFTERS[self.drafter](), TARGET, self.lookahead, rule=self.rule)
        return Draws(decoder, PROMPT, 2, SAMPLINGS[self.sampling], max_tokens=5)

    def truth(self) -> dict[Outcome, float]:
        return joint_distribution(TARGET, PROMPT, 2, SAMPLINGS[self.sampling])

    def __str__(self) -> str:
        return f"{self.drafter}-{self.rule}-{self.sampling}"


SCENARIOS = [
    Scenario("trees"),
    Scenario("static", sampling="0.7"),
    Scenario("chains", sampling="bias", lookahead=4),
    Scenario("chains", "block", lookahead=4),
    Scenario("chosen", sampling="0.7"),
    Scenario("trained"),
    Scenario("trained-chains", "block", lookahead=4),
    Scenario("merged"),
    Scenario("merged-chosen", sampling="bias"),
    Scenario("mtp", sampling="0.7", lookahead=4, draws=400),
    Scenario("mtp", "block", lookahead=Sometimes(), draws=300),
    Scenario("dflash", lookahead=4, draws=400),
    Scenario("dflash", "block", "bias", lookahead=Sometimes(), draws=300),
    Scenario("trees", lookahead=Priced(STEEP, (0.0,))),
    Scenario("chains", lookahead=Sometimes()),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_output_has_the_targets_distribution(scenario):
    assert p_of_output(scenario.open(), scenario.truth(), scenario.draws) > THRESHOLD


@cache
def plain():
    return plain_texts(TARGET, PROMPT, SAMPLINGS["1"])


@pytest.mark.parametrize("drafter", ["trees", "chains", "trained", "merged", "mtp", "dflash"])
def test_under_coupled_every_text_is_that_of_plain_decoding(drafter):
    decoder = SpeculativeDecoder(DRAFTERS[drafter](), TARGET, 6, rule="coupled")
    assert texts_of(decoder, PROMPT, SAMPLINGS["1"]).texts == plain()


def test_texts_side_by_side_are_exact_and_independent():
    kinds = [Kind((1,)), Kind((0, 2, 1, 1, 3, 0), SamplingParams(temperature=0.7, top_p=0.9))]

    engine = Engine(TARGET, head(), lookahead=Sometimes(), max_rows=4, capacity=32)
    assert serve_in_stages(engine, kinds, 2, 160, TARGET).smallest_p_value(TARGET) > THRESHOLD


def test_a_trained_head_is_accepted_more_often_than_a_random_one():
    shares = []
    for drafter in ("trained-chains", "chains"):
        sample = Scenario(drafter, lookahead=3).open().more(200)
        shares.append(sample.accepted / sample.drafted)
    assert shares[0] > shares[1] + 0.15


def q_not_renormalised() -> AbstractContextManager:
    """As if q were the head's distribution over the whole vocabulary, of which a part cannot be drafted."""
    spread = DraftVocabulary.spread
    return patch.object(DraftVocabulary, "spread", lambda self, q: 0.6 * spread(self, q))


@pytest.mark.parametrize("drafter", ["trees", "chains"])
def test_q_over_a_part_of_the_vocabulary_that_is_not_renormalised_is_found(drafter):
    scenario = Scenario(drafter, lookahead=4, draws=3_000)
    with q_not_renormalised():
        draws = scenario.open()
        assert p_of_mistake(draws, scenario.truth(), scenario.draws) < THRESHOLD
