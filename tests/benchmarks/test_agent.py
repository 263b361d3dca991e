"""The scripted agent asks the same in every run; systems are measured with and without a memory."""

import json

import pytest

from benchmarks.__main__ import run
from benchmarks.agent.script import ATTEMPTS, EDITS, shop, text_of, turns
from tiny import model as tiny_model


def test_the_file_is_python_of_about_300_lines() -> None:
    text = text_of(shop())
    assert 250 <= len(text.splitlines()) <= 350
    compile(text, "shop.py", "exec")


def test_twelve_turns_each_quote_a_part_of_the_file_as_it_is_by_then() -> None:
    asked = turns()
    assert len(asked) == len(EDITS) * len(ATTEMPTS) == 12
    assert asked == turns()
    assert shop()[0, 0] in asked[0].prompt
    assert shop()[0, 0].replace("rows", "entries") in asked[6].prompt
    assert len({turn.prompt for turn in asked}) == 12


def test_systems_are_measured_by_attempt_and_by_pass(tmp_path, capsys) -> None:
    pytest.importorskip("transformers")
    folder = tiny_model.save(tmp_path, context=1024)
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(json.dumps({"prompt": f"the cat sat on the {word}"}) for word in ("mat", "dog")))
    arguments = ["agent", questions, "-m", folder, "-n", 6, "--dtype", "float32", "--systems", "suffix,suffix-memory"]
    assert run([*map(str, arguments), "--json"]) == 0
    rows = {(row["category"], row["system"]): row for row in json.loads(capsys.readouterr().out)}
    assert {category for category, _ in rows} == {
        "questions, first pass",
        "questions, second pass",
        "agent, first attempts",
        "agent, later attempts",
        "all",
    }
    # Greedy attempts at the same edit resemble each other, even those of a random model.
    later = [rows["agent, later attempts", system]["mean_tokens_per_round"] for system in ("suffix", "suffix-memory")]
    assert later[1] > later[0] >= 1
    assert rows["agent, later attempts", "suffix-memory"]["same_tokens"] == 1


def test_an_unknown_system_is_refused(capsys) -> None:
    assert run(["agent", "-m", "x", "--systems", "suffix,magic"]) == 2
    assert "choose from plain, suffix" in capsys.readouterr().err
