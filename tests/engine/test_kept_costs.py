"""The measured cost curve stays in the cache folder: the next engine does not measure."""

import copy
import json
import math
import threading
from dataclasses import replace

import pytest

from outrider import Engine, Request
from outrider.engine import costs
from outrider.engine import kept_costs as module
from outrider.engine.kept_costs import KeptCosts, kept_costs
from outrider.engine.warmup import measure_costs
from outrider.lookahead import CostCurve
from outrider.runtimes.base import NOTHING, Features
from tiny.tables import DRAFT, TARGET

POINTS = {(1, 1): 0.010, (1, 4): 0.012, (1, 16): 0.020}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.delenv("OUTRIDER_COSTS")
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path))
    return tmp_path / "costs"


@pytest.fixture
def target():
    model = copy.copy(TARGET)
    model.traits = replace(model.traits, identity="a table")
    return model


@pytest.fixture
def measured(monkeypatch):
    """How often an engine has measured."""
    calls = []

    def measure(*arguments):
        calls.append(arguments)
        return measure_costs(*arguments)

    monkeypatch.setattr(costs, "measure_costs", measure)
    return calls


def opened(target, **arguments) -> Engine:
    return Engine(target, DRAFT, max_rows=2, capacity=64, **arguments)


def test_the_second_engine_measures_nothing(folder, target, measured) -> None:
    first = opened(target)
    assert len(measured) == len(list(folder.glob("*.json"))) == 1
    second = opened(target)
    assert len(measured) == 1
    assert second.costs.points == pytest.approx(first.costs.points)
    assert second.costs.measured_depth == first.costs.measured_depth > 0
    assert second.costs.measured


def test_other_rows_features_and_models_have_their_own_curves(folder, target, measured) -> None:
    opened(target)
    Engine(target, DRAFT, max_rows=1, capacity=64)
    assert len(measured) == 2
    target.traits = replace(target.traits, identity="another table")
    opened(target)
    assert len(measured) == len(list(folder.glob("*.json"))) == 3
    assert kept_costs(target, 2, 64, NOTHING).read() is not None
    assert kept_costs(target, 2, 64, Features(top=2)).read() is None


def test_another_version_of_outrider_or_of_a_runtime_measures(folder, target, measured, monkeypatch) -> None:
    opened(target)
    opened(target)
    assert len(measured) == 1
    for number, library in enumerate(("outrider", "torch"), start=2):
        versions = {library: "99"}
        monkeypatch.setattr("importlib.metadata.version", lambda name, found=versions: found.get(name, "1"))
        opened(target)
        opened(target)
        assert len(measured) == number


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", '{"format": 1}', "[" * 100_000, "\x00\xff"])
def test_a_damaged_file_is_measured_again_and_replaced(folder, target, measured, content: str) -> None:
    opened(target)
    (file,) = folder.glob("*.json")
    file.write_text(content, encoding="utf-8")
    opened(target)
    opened(target)
    assert len(measured) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"key": {}},
        {"points": []},
        {"points": [[1, 1]]},
        {"points": [[1, 1, -1.0]]},
        {"points": [[1, 1, math.nan]]},
        {"points": [[2, 1, 1.0]]},
        {"points": [[1, math.inf, 1.0]]},
        {"points": 7},
        {"depth": -1},
        {"depth": "deep"},
    ],
    ids=str,
)
def test_a_foreign_file_is_ignored(tmp_path, change) -> None:
    kept = KeptCosts(tmp_path / "a.json", {"model": "a"})
    kept.keep(CostCurve(POINTS, 64))
    assert kept.read().points == pytest.approx(POINTS)
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(content | change))
    assert kept.read() is None


def test_nothing_is_kept_where_it_is_switched_off_or_the_model_has_no_name(
    folder, target, measured, monkeypatch
) -> None:
    opened(TARGET)
    monkeypatch.setenv("OUTRIDER_COSTS", "off")
    opened(target)
    opened(target)
    assert len(measured) == 3
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_no_failure(folder, target, measured) -> None:
    folder.write_text("a file where the folder should be")
    opened(target)
    opened(target)
    assert len(measured) == 2


def test_an_idle_engine_keeps_what_its_passes_taught(folder, target, monkeypatch) -> None:
    monkeypatch.setattr(module, "BETWEEN", 3)
    now = [0.0]

    def clock() -> float:
        now[0] += 0.001
        return now[0]

    engine = opened(target, clock=clock)
    (file,) = folder.glob("*.json")
    before = file.read_text()
    engine.submit(Request((1,), 60))
    while not engine.idle:
        assert file.read_text() == before
        engine.step()
    assert engine.costs.observations >= 3
    assert file.read_text() != before
    assert kept_costs(target, 2, 64, NOTHING).read().points == pytest.approx(engine.costs.refined_points(99))


def test_refined_points_are_what_the_curve_says_without_the_level() -> None:
    curve = CostCurve(POINTS, 64)
    assert curve.refined_points(99) == pytest.approx(POINTS)
    for _ in range(300):
        for tokens, seconds in ((1, 0.010), (4, 0.016), (6, 0.018)):
            curve.observe(1, tokens, seconds)
    refined = curve.refined_points(99)
    assert set(refined) == {*POINTS, (1, 6)}
    for (rows, tokens), seconds in refined.items():
        assert seconds * math.exp(curve.level) == pytest.approx(curve.seconds(rows, tokens))
    assert refined[1, 4] / refined[1, 1] == pytest.approx(1.6, rel=0.05)
    assert list(curve.refined_points(3)) == list(POINTS)


def test_a_curve_that_no_longer_fits_is_measured_again(tmp_path) -> None:
    kept = KeptCosts(tmp_path / "a.json", {})
    curve = CostCurve(POINTS, 64)
    kept.keep(curve)
    for _ in range(200):
        curve.observe(1, 1, 0.011)
    kept.keep_if_learned(curve)
    assert kept.read() is not None
    for _ in range(200):
        for tokens in (1, 4, 16):
            curve.observe(1, tokens, 3 * POINTS[1, tokens])
    kept.keep_if_learned(curve)
    assert kept.read() is None


def test_a_file_is_whole_whoever_writes_at_the_same_time(tmp_path) -> None:
    kept = [KeptCosts(tmp_path / "a.json", {}) for _ in range(3)]
    curve = CostCurve({(1, tokens): tokens / 100 for tokens in range(1, 200)}, 64)
    kept[0].keep(curve)
    writers = [threading.Thread(target=lambda mine=mine: [mine.keep(curve) for _ in range(100)]) for mine in kept]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert kept[0].read() is not None
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
