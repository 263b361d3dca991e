"""`outrider check` on tiny models: it passes where tokens agree, and fails where they do not."""

import json

import pytest
from calls import other_last_token

from outrider.check import against_plain
from outrider.check.against_plain import Answer
from outrider.cli.check import evenly


def test_check_passes_where_the_tokens_agree(outrider, folder):
    status, out, err = outrider("check", "-m", folder, "-n", 16, "--limit", 3, "--drafter", "lookup")
    assert status == 0, err
    assert "outrider lookup 3 3 0 0" in " ".join(out.split())
    assert "passed" in out


def test_check_still_knows_a_flag_that_it_needs_no_longer(outrider, folder):
    assert outrider("check", "--against-plain", "-m", folder, "-n", 4, "--limit", 1)[0] == 0
    assert "--against-plain" not in outrider("check", "--help")[1]


def test_check_compares_with_mlx_lm_itself(outrider, folder):
    pytest.importorskip("mlx_lm")
    arguments = ("-m", folder, "--backend", "mlx", "-n", 16, "--limit", 2, "--json")
    status, out, err = outrider("check", *arguments)
    assert status == 0, err
    outcomes = json.loads(out)["outcomes"]
    assert {(outcome["reference"], outcome["other"]) for outcome in outcomes} == {
        ("mlx-lm", "outrider plain"),
        ("mlx-lm", "outrider lookup"),
    }
    assert all(outcome["difference"] is None for outcome in outcomes)
    assert sum(outcome["drafted"] for outcome in outcomes) > 0


def test_check_names_prompts_outcomes_and_drafts_in_json(outrider, folder, draft_folder):
    status, out, err = outrider("check", "-m", folder, "-md", draft_folder, "-n", 16, "--limit", 2, "--json")
    assert status == 0, err
    outcomes = json.loads(out)["outcomes"]
    assert {outcome["other"] for outcome in outcomes} == {"outrider plain", "outrider model"}
    assert {outcome["reference"] for outcome in outcomes} == {"transformers"}
    assert all((outcome["drafted"] > 0) == (outcome["other"] == "outrider model") for outcome in outcomes)


@pytest.mark.parametrize(
    "name, content, count",
    [
        ("prompts.txt", "the cat sat\n\nthe mat ran\n", 2),
        ("prompts.jsonl", '{"prompt": "the cat sat"}\n{"prompt": "the mat"}\n', 2),
        ("questions.jsonl", '{"question_id": 81, "category": "writing", "turns": ["the cat", "the mat"]}\n', 1),
    ],
)
def test_check_reads_prompts(outrider, folder, tmp_path, name, content, count):
    file = tmp_path / name
    file.write_text(content)
    status, out, err = outrider("check", "-m", folder, "-n", 4, "--prompts", file, "--json")
    assert status == 0, err
    assert {outcome["prompt"] for outcome in json.loads(out)["outcomes"]} == set(range(count))


def test_prompts_are_spread_evenly_over_a_file():
    assert evenly("abcdefghij", 5) == ["a", "c", "e", "g", "i"]
    assert evenly("ab", 5) == ["a", "b"]


def make_dishonest(monkeypatch, change):
    """The drafting system, and only it, says something else."""
    honest = against_plain.outrider_greedy

    def dishonest(decoder):
        decode = honest(decoder)
        if decoder.drafter is None:
            return decode
        return lambda prompt, max_tokens: Answer(change(decode(prompt, max_tokens).tokens))

    monkeypatch.setattr("outrider.cli.check.outrider_greedy", dishonest)


def test_check_fails_where_tokens_differ(outrider, folder, monkeypatch):
    make_dishonest(monkeypatch, other_last_token)
    status, out, _ = outrider("check", "-m", folder, "-n", 16, "--limit", 2, "--drafter", "lookup", "--json")
    result = json.loads(out)
    assert status == 1
    assert not result["passed"]
    wrong = [outcome for outcome in result["outcomes"] if not outcome["passed"]]
    assert [outcome["other"] for outcome in wrong] == ["outrider lookup"] * 2
    assert all(outcome["difference"]["place"] == outcome["tokens"] - 1 for outcome in wrong)
    assert all(outcome["difference"]["margin"] > 1e-4 for outcome in wrong)


def test_check_says_which_tokens_differ(outrider, folder, monkeypatch):
    make_dishonest(monkeypatch, other_last_token)
    status, out, _ = outrider("check", "-m", folder, "-n", 16, "--limit", 1)
    assert status == 1
    assert "different" in out
    assert "failed" in out


def test_a_difference_within_the_margin_is_rounding(outrider, folder, monkeypatch):
    make_dishonest(monkeypatch, other_last_token)
    status, out, _ = outrider("check", "-m", folder, "-n", 16, "--limit", 1, "--margin", "1e6")
    assert status == 0
    assert "rounding" in out


def test_an_output_that_ends_early_is_no_rounding(outrider, folder, monkeypatch):
    make_dishonest(monkeypatch, lambda tokens: tokens[:-1])
    status, out, _ = outrider("check", "-m", folder, "-n", 8, "--limit", 1, "--margin", "1e6", "--json")
    assert status == 1
    assert json.loads(out)["outcomes"][-1]["difference"]["margin"] is None  # JSON knows no infinity
