"""Texts of one engine with drafters and rules of their own."""

import pytest

from outrider import Engine, Fixed, ModelDrafter, ModelTreeDrafter, Request, SamplingParams, SettingError, SuffixDrafter
from tiny.tables import DRAFT, TARGET

GREEDY = SamplingParams(temperature=0)


class Broken(SuffixDrafter):
    def propose(self, sequences, budgets):
        raise RuntimeError("out of memory")


def opened(**settings) -> Engine:
    given = {"lookahead": 3, "max_rows": 4} | settings
    drafters = {"model": ModelDrafter(DRAFT), "suffix": SuffixDrafter(), "broken": Broken()}
    trees = ModelTreeDrafter(DRAFT)
    trees.name = "trees"
    return Engine(TARGET, trees, drafters=drafters, **given)


def decoded(engine: Engine, *requests: Request) -> list:
    handles = [engine.submit(request) for request in requests]
    while not engine.idle:
        engine.step()
    return handles


def request(**settings) -> Request:
    return Request((0, 1, 2, 0, 1), 20, GREEDY, **settings)


def test_each_text_is_drafted_by_its_own() -> None:
    records = []
    engine = opened(observer=records.append)
    own, model, suffix = decoded(engine, request(), request(drafter="model"), request(drafter="suffix"))
    assert own.tokens == model.tokens == suffix.tokens
    sources = {}
    for record in records:
        for part in record.sequences:
            if part.drafted:
                sources.setdefault(part.sequence, set()).add(part.source)
    assert sources == {own.id: {"trees"}, model.id: {"model"}, suffix.id: {"suffix"}}
    assert engine.drafters == ["model", "suffix", "broken"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_that_fails_leaves_the_others_drafting() -> None:
    engine = opened()
    own, broken = decoded(engine, request(), request(drafter="broken"))
    assert own.tokens == broken.tokens
    assert own.stats.drafted > 0
    assert broken.stats.drafted == 0
    assert engine.drafter_failures == 1
    assert engine.drafter is not None


def test_a_drafter_that_is_not_open_is_refused() -> None:
    with pytest.raises(SettingError, match="drafter 'head' is not open: this engine has model, suffix, broken: name"):
        opened().submit(request(drafter="head"))
    with pytest.raises(SettingError, match="this engine has no drafters with names"):
        Engine(TARGET, SuffixDrafter()).submit(request(drafter="suffix"))
    with pytest.raises(SettingError, match=r"drafters\['model'\] is .*: give a Drafter"):
        Engine(TARGET, drafters={"model": DRAFT})


def test_a_rule_is_refused_where_it_cannot_judge_the_drafter() -> None:
    engine = opened()
    with pytest.raises(SettingError, match="rule block judges chains, and drafter trees proposes trees"):
        engine.submit(request(rule="block"))
    with pytest.raises(SettingError, match="rule 'fast' is unknown"):
        request(rule="fast")
    chains, plain = decoded(engine, request(rule="block", drafter="model"), request(rule="block", num_draft_tokens=0))
    assert chains.tokens == plain.tokens


def test_a_number_of_tokens_holds_for_all_drafters() -> None:
    records = []
    decoded(opened(observer=records.append, lookahead=Fixed(2)), request(), request(drafter="model"))
    assert {part.drafted for record in records for part in record.sequences if part.source == "model"} <= {1, 2}


def test_drafts_are_measured_where_the_engine_has_no_drafter_of_its_own() -> None:
    engine = Engine(TARGET, drafters={"model": ModelDrafter(TARGET)}, max_rows=2)
    plain, model = decoded(engine, request(), request(drafter="model"))
    assert plain.stats.drafted == 0
    assert plain.tokens == model.tokens
