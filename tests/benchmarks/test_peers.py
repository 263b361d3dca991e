"""Other projects answer the same questions as Outrider, and are timed alike."""

import json

import pytest

from benchmarks.__main__ import run
from benchmarks.peers.timing import measured
from tiny import gguf as tiny_gguf
from tiny import model as tiny_model

PROMPT = "the cat sat on the mat and the cat"


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    file = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    file.write_text(json.dumps({"category": "cats", "turns": [PROMPT]}))
    return file


def rows_of(capsys, *arguments):
    status = run([str(argument) for argument in ("peers", *arguments, "--json")])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)


def test_transformers_is_timed_with_and_without_its_prompt_lookup(tmp_path, questions, capsys):
    pytest.importorskip("transformers")
    folder = tiny_model.save(tmp_path)
    systems = ("plain", "transformers", "transformers-lookup@4")
    precision = ("--dtype", "float32", "--peer-dtype", "float32")
    rows = rows_of(capsys, questions, "-m", folder, "-n", 12, "--systems", ",".join(systems), *precision)
    assert [row["system"] for row in rows] == list(systems)
    assert all(row["same_tokens"] == 1 and row["tokens_per_second"] > 0 for row in rows)


def test_the_peers_of_llama_cpp_are_timed(tmp_path, questions, capsys):
    for module in ("llama_cpp", "gguf", "jinja2"):
        pytest.importorskip(module)
    file = tiny_gguf.save(tmp_path / "tiny.gguf", words=tiny_gguf.WORDS, chat_template=tiny_gguf.TEMPLATE)
    systems = "plain,suffix@4,llama-cpp-loop,llama-cpp-python,llama-cpp-lookup@2"
    rows = {
        row["system"]: row
        for row in rows_of(capsys, questions, "-m", file, "--backend", "llama", "-t", 1, "-n", 12, "--systems", systems)
    }
    assert list(rows) == systems.split(",")
    assert rows["llama-cpp-loop"]["same_tokens"] == rows["suffix@4"]["same_tokens"] == 1


def test_a_peer_of_llama_cpp_needs_a_file_of_it(questions, capsys):
    assert run(["peers", str(questions), "-m", "x", "--systems", "llama-cpp-loop"]) == 2
    assert "--backend llama" in capsys.readouterr().err


def test_what_arrives_first_belongs_to_the_prefill() -> None:
    one_by_one = measured([1, 2, 3], 10.0, [12.0, 13.0, 14.0])
    assert (one_by_one.seconds_prefill, one_by_one.seconds_decoding) == (2.0, 3.0)
    at_once = measured([1, 2, 3, 4], 10.0, [12.0, 13.0, 13.0, 13.0])
    assert at_once.seconds_decoding == pytest.approx(4 / 3)
