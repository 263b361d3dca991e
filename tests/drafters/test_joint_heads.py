"""One tree from lookups and a head is no worse than the better of them, in tokens and in time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from drafters.knowing_head import Clock, KnowingHead
from drafters.replay import GREEDY, VOCAB_SIZE, Replayed, Tally, replay, saved_answers
from drafters.test_joint_trees import KINDS
from outrider import Budget, Drafter, JointDrafter, LookupDrafter, RecyclingSource, SettingError, SuffixSource
from outrider.drafters.base import Reading
from outrider.drafters.heads.drafter import HeadDrafter
from outrider.drafters.joint.blend import Blend
from outrider.drafters.lookup.source import Source
from outrider.maths.budget import FREE, Prices
from outrider.maths.draft import EMPTY
from outrider.runtimes.native.library import drafting
from outrider.training.shards import Text

NODE, STEP = 0.08, 0.05  # what a node adds to a pass, and what a step of the head takes; a pass of one token takes 1
PER_TOKEN = 0.6  # at present
SKILLS = (0.15, 0.55, 0.8)
# Answers of a few hundred rounds: what a new drafter pays until it has learned what the head is worth.
LEARNING = 1.12


@dataclass
class Course:
    """Some answers, drafted with a head."""

    tally: Tally
    questions: int
    seconds: float

    @property
    def seconds_per_token(self) -> float:
        return self.seconds / self.tally.tokens


def course(make: Callable[[KnowingHead, Clock], Drafter], texts: Sequence[Text], skill: float, prices=FREE) -> Course:
    clock = Clock()
    head = KnowingHead(skill, clock, STEP)
    drafter = make(head, clock)
    tallies = []
    for text in texts:
        head.knows(text)
        tallies.append(replay(drafter, [text], prices=prices))
    total = Tally(*(sum(getattr(each, name) for each in tallies) for name in Tally.__dataclass_fields__))
    return Course(total, head.questions, total.rounds + NODE * total.drafted + clock.now)


def lookups(**settings) -> LookupDrafter:
    return LookupDrafter([SuffixSource(), RecyclingSource()], **settings)


def joint(head: KnowingHead, clock: Clock) -> Drafter:
    return JointDrafter(lookups(), HeadDrafter(head), clock=clock)


def looked_up(head: KnowingHead, clock: Clock) -> Drafter:
    return lookups()


def by_head(head: KnowingHead, clock: Clock) -> Drafter:
    return HeadDrafter(head)


def priced(node: float) -> Prices:
    return Prices(tuple(node * count / PER_TOKEN for count in range(17)), 1 / PER_TOKEN)


@pytest.mark.parametrize("skill", SKILLS)
@pytest.mark.parametrize("kind", KINDS)
def test_together_no_worse_than_the_better_one_in_tokens_per_round(kind, skill):
    texts = KINDS[kind][:4]
    both, *alone = (course(make, texts, skill).tally.tokens_per_round for make in (joint, looked_up, by_head))
    assert both >= 0.95 * max(alone)


@pytest.mark.parametrize("skill", SKILLS)
@pytest.mark.parametrize("kind", KINDS)
def test_together_no_worse_than_the_better_one_in_time(kind, skill):
    texts = KINDS[kind]
    both = course(joint, texts, skill, priced(NODE)).seconds_per_token
    alone = course(looked_up, texts, skill, priced(NODE)).seconds_per_token
    head = course(by_head, texts, skill, priced(NODE + STEP)).seconds_per_token
    best = min(alone, head, 1.0)
    learns = skill > 0.7 or kind == "everything"  # a surprise, or fifty rounds in all
    assert both <= (LEARNING if learns else 1.02) * best


def test_the_better_of_both_is_surpassed():
    """Where the text copies in part, and a head is right in half of all places."""
    texts = KINDS["much"]
    both = course(joint, texts, 0.55, priced(NODE)).seconds_per_token
    alone = course(looked_up, texts, 0.55, priced(NODE)).seconds_per_token
    head = course(by_head, texts, 0.55, priced(NODE + STEP)).seconds_per_token
    assert both < 0.85 * min(alone, head)


def test_a_head_adds_to_lookups_where_the_text_copies_nothing():
    texts = KINDS["little"]
    alone = course(looked_up, texts, 0.6, priced(NODE)).seconds_per_token
    assert course(joint, texts, 0.6, priced(NODE)).seconds_per_token < 0.85 * alone


def test_where_text_copies_the_head_is_hardly_asked():
    found = course(joint, KINDS["everything"], 0.8, priced(NODE))
    assert found.questions < 0.3 * found.tally.rounds
    elsewhere = course(joint, KINDS["little"], 0.8, priced(NODE))
    assert elsewhere.questions > 3 * elsewhere.tally.rounds


def test_a_head_that_knows_nothing_is_soon_asked_no_more():
    texts = KINDS["little"]
    found = course(joint, texts, 0.0, priced(NODE))
    assert found.questions < 0.35 * found.tally.rounds


def test_chances_are_right_on_average():
    found = course(joint, saved_answers(), 0.55, priced(NODE)).tally
    assert found.expected == pytest.approx(found.accepted, rel=0.1)


def test_what_both_expect_is_likelier_than_what_one_expects_and_counted_once():
    blend = Blend()
    family = (0, 1, 0)
    mixed = blend.mixed({1: 0.6, 2: 0.3}, {1: 0.5, 3: 0.4}, family)
    assert mixed[1] > max(mixed[2], mixed[3])
    assert sum(mixed.values()) <= 1
    for _ in range(200):
        blend.learn({1: 0.6, 2: 0.3}, {1: 0.5, 3: 0.4}, family, mixed, 1 if _ % 10 else 2)
    after = [blend.corrected(blend.mixed({1: 0.6}, {1: 0.5}, family)[1], 0, who) for who in (0, 2)]
    assert after[1] > 1.3 * after[0]


class Silent(Source):
    """Knows nothing; trees grow in Python where it is among the sources."""

    def foresee(self, cursor, context):
        return None


@pytest.mark.skipif(drafting() is None, reason="needs the compiled library: pip install ./native")
@pytest.mark.parametrize("prices", [FREE, priced(NODE)], ids=["free", "priced"])
def test_the_compiled_library_grows_the_same_trees(prices):
    def drafts_with(*further: Source):
        made = []

        def make(head: KnowingHead, clock: Clock) -> Drafter:
            drafter = JointDrafter(
                LookupDrafter([SuffixSource(), RecyclingSource(), *further]), HeadDrafter(head), clock=clock
            )
            propose = drafter.propose

            def watched(sequences, budgets):
                drafts = propose(sequences, budgets)
                made.extend((each.tokens, each.all_parents, each.chances, each.sources) for each in drafts)
                return drafts

            drafter.propose = watched
            return drafter

        return course(make, KINDS["little"][:2] + KINDS["much"][:2], 0.55, prices), made

    assert drafts_with() == drafts_with(Silent())


def test_without_states_lookups_draft_alone():
    drafter = joint(KnowingHead(0.5, Clock()), Clock())
    drafter.prepare(1, 64, VOCAB_SIZE)
    sequence = Replayed(0, [1, 2, 3, 1, 2, 3, 1, 2], sampling=GREEDY)
    drafter.lookups.read([sequence], [Reading(0, sequence.tokens, EMPTY)])
    assert drafter.propose([sequence], [Budget(3, 3)])[0].tokens[0] == 3


def test_trees_and_chains_do_not_mix():
    with pytest.raises(SettingError, match="trees="):
        JointDrafter(lookups(trees=False), HeadDrafter(KnowingHead(0.5, Clock())))
