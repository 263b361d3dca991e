"""A run over workers that come and go; here they are objects, in tests/jobs/test_ray.py processes."""

import json
import pickle
import random
import sys

import pytest

from outrider import ModelError, SamplingParams, SettingError, TableModel
from outrider.cli.app import run as command_line
from outrider.jobs import Common, Defaults, Jobs, ResultFile, parse_prompts, run
from outrider.jobs.decoding import EngineSettings
from outrider.jobs.ray_pool import RayPool
from outrider.jobs.replica import Replica
from outrider.jobs.spread import run_on_workers

TARGET = TableModel.random(8, 2, spread=1.5, seed=3)
DEFAULTS = Defaults(12, SamplingParams())
COMMON = Common("table", rule="coupled", seed=11)
SETTINGS = EngineSettings(2, "coupled")
LINES = [{"tokens": [place % 8, place // 8], "max_tokens": 4 + place % 9} for place in range(40)]


class Turns:
    """A clock by which a worker's turn is two rounds long."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.2
        return self.now


class Workers:
    """A pool in this process: any order, and losses where `lost(worker, turn)` says so.

    Attributes:
        begun: how often each job was handed out.
    """

    def __init__(self, lost=lambda worker, turn: False, open_models=lambda: (TARGET, None), rows=3, seed=0):
        self.lost, self.open_models, self.rows = lost, open_models, rows
        self.random = random.Random(seed)
        self.replicas, self.asked, self.turns, self.begun = {}, {}, 0, {}
        self.most = 0  # jobs that one worker held at once
        self.held = {}

    def start(self):
        number = len(self.replicas)
        self.replicas[number], self.held[number] = None, set()
        return number

    def decode(self, worker, jobs):
        assert worker not in self.asked
        self.asked[worker] = pickle.loads(pickle.dumps(list(jobs)))
        self.held[worker] |= {job.key for job in jobs}
        self.most = max(self.most, len(self.held[worker]))
        for job in jobs:
            self.begun[job.key] = self.begun.get(job.key, 0) + 1

    def wait(self):
        worker = self.random.choice(sorted(self.asked))
        jobs = self.asked.pop(worker)
        self.turns += 1
        if self.lost(worker, self.turns):
            return worker, None
        if self.replicas[worker] is None:
            self.replicas[worker] = Replica(self.open_models, COMMON, SETTINGS, self.rows, Turns())
        report = pickle.loads(pickle.dumps(self.replicas[worker].decode(jobs)))
        self.held[worker] -= set(report.keys)
        return worker, report


def jobs_of(lines=LINES):
    return Jobs(parse_prompts("\n".join(map(json.dumps, lines)), "prompts.jsonl", DEFAULTS), COMMON)


def decode(path, pool, jobs=None, workers=3, **settings):
    with ResultFile(path) as results:
        return run_on_workers(jobs or jobs_of(), results, lambda: pool, workers=workers, rows=pool.rows, **settings)


def contents(path):
    """Results by id, without counts and times; refuses one that is there twice."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = {line["id"]: {name: line[name] for name in line if name != "stats"} for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("spread") / "r"
    with ResultFile(path) as results:
        run(jobs_of(), results, lambda: (TARGET, None), rule="coupled", lookahead=2, max_rows=4)
    return contents(path)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_are_those_of_one_process(tmp_path, expected, workers):
    pool = Workers()
    seen = []
    progress = decode(tmp_path / "r", pool, workers=workers, report=lambda now: seen.append(now.done))
    assert contents(tmp_path / "r") == expected
    assert (progress.done, progress.decoded, progress.failed) == (40, 40, 0)
    assert progress.emitted == sum(len(result["tokens"]) for result in expected.values())
    assert seen == sorted(seen)
    assert len(pool.replicas) == workers
    assert pool.most == pool.rows
    assert set(pool.begun.values()) == {1}


@pytest.mark.parametrize("seed", range(8))
def test_a_lost_worker_costs_its_texts_in_progress_alone(tmp_path, expected, seed):
    """Whenever it is lost; nothing is lost with it, nothing is there twice."""
    chance = random.Random(seed)
    pool = Workers(lost=lambda worker, turn: turn < 60 and chance.random() < 0.2, seed=seed)
    progress = decode(tmp_path / "r", pool)
    losses = len(pool.replicas) - 3
    assert losses > 3
    assert contents(tmp_path / "r") == expected
    assert progress.done == 40
    assert sum(pool.begun.values()) <= 40 + losses * pool.rows


def test_a_run_that_was_stopped_goes_on_over_workers(tmp_path, expected):
    class Stopped(Exception):
        pass

    def stop(progress):
        if progress.done >= 7:
            raise Stopped

    with pytest.raises(Stopped):
        decode(tmp_path / "r", Workers(), report=stop)
    before = len(contents(tmp_path / "r"))
    assert 7 <= before < 40
    pool = Workers(seed=1)
    progress = decode(tmp_path / "r", pool)
    assert (progress.before, sum(pool.begun.values())) == (before, 40 - before)
    assert contents(tmp_path / "r") == expected
    assert decode(tmp_path / "r", Workers()).before == 40


def test_no_worker_starts_without_a_prompt_for_it(tmp_path):
    pool = Workers(rows=8)
    decode(tmp_path / "r", pool, jobs_of(LINES[:3]), workers=5)
    assert len(pool.replicas) == 3
    assert pool.most == 1


def test_a_prompt_that_takes_its_worker_along_ends_as_an_error(tmp_path, expected):
    """The prompts beside it are decoded all the same."""
    pool = Workers()
    poison = "7"

    def lost(worker, turn):
        return pool.replicas[worker] is not None and poison in pool.held[worker]

    pool.lost = lost
    progress = decode(tmp_path / "r", pool)
    found = contents(tmp_path / "r")
    assert found.pop(7)["error"] == "each of the 6 workers that decoded this prompt was lost"
    assert found == {id: result for id, result in expected.items() if id != 7}
    assert (progress.done, progress.failed) == (40, 1)


def test_workers_that_never_report_end_the_run(tmp_path):
    pool = Workers(lost=lambda worker, turn: True)
    with pytest.raises(ModelError, match="6 workers in a row were lost before their first text"):
        decode(tmp_path / "r", pool)
    assert contents(tmp_path / "r") == {}


def test_what_a_worker_cannot_open_is_the_error_of_the_run(tmp_path):
    """And results that are there stay."""
    (tmp_path / "r").write_bytes(b"")

    def missing():
        raise ModelError("no model here")

    with pytest.raises(ModelError, match="no model here"):
        decode(tmp_path / "r", Workers(open_models=missing))


def test_a_prompt_that_no_worker_can_take_ends_the_run_after_the_texts_before_it(tmp_path, expected):
    lines = [*LINES[:10], {"prompt": "text without a tokenizer"}, *LINES[11:20]]
    with pytest.raises(SettingError, match="has no tokenizer"):
        decode(tmp_path / "r", Workers(), jobs_of(lines), workers=2)
    found = contents(tmp_path / "r")
    assert set(range(1, 8)) <= set(found)
    assert 11 not in found
    assert found == {id: expected[id] for id in found}


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--workers", "0"), "--workers is 0: it must be at least 1"),
        (("--address", "auto"), "--address is where --workers are: give --workers N as well"),
        (("--workers", "2", "--trace", "t.jsonl"), "--trace is for one process and --workers is 2"),
        (("--workers", "2", "--drafter-state", "s"), "--drafter-state is for one process and --workers is 2"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    assert command_line(["generate", "--input", "p.jsonl", "--output", "r", "-m", "model", *flags]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_ray_there_is_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModelError, match=r"pip install 'outrider\[ray\]'"):
        RayPool(lambda threads: None, workers=1)
