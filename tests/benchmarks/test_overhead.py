"""What the engine itself costs is measured in every case."""

import json
import time

import pytest

from benchmarks.__main__ import run
from benchmarks.overhead import measurement as overhead


def test_every_library_and_rule_is_measured(monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(overhead, "ROUNDS", 3)
    monkeypatch.setattr(overhead, "VOCABULARY", 4096)
    assert run(["overhead", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["sampling"] for row in rows} == set(overhead.SAMPLING)
    assert {(row["library"], row["rows"]) for row in rows} >= {("numpy, float32", 1), ("torch, bfloat16", 16)}
    assert all(row["milliseconds"] > 0 and row["milliseconds_of_code"] > 0 for row in rows)


def test_what_a_pass_reads_is_not_counted():
    """Some 20 ms a round, of which the engine takes less than one."""

    def seconds(weights):
        sampling = overhead.SAMPLING["greedy"]
        return overhead.measure_overhead(1, *sampling, lambda array: array, overhead.FEW_TOKENS, 9, weights)

    started = time.perf_counter()
    cold = seconds(400)
    assert cold < (time.perf_counter() - started) / (9 + overhead.WARM_UP) / 2


def test_a_pass_cannot_read_less_than_nothing(capsys):
    assert run(["overhead", "--weights", "-5"]) == 2
    assert "--weights is -5" in capsys.readouterr().err
