"""`outrider generate` with a grammar."""

import json

import pytest
from calls import PROMPT, refusal

pytest.importorskip("llguidance")

SCHEMA = {
    "type": "object",
    "properties": {"size": {"enum": ["small", "large"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["size", "count"],
    "additionalProperties": False,
}


@pytest.fixture
def answer(outrider, bytes_folder):
    def call(*arguments):
        command = ("generate", "Which?", "-m", bytes_folder, "-n", 60, "--dtype", "float32", "--json", *arguments)
        status, out, err = outrider(*command)
        assert status == 0, err
        return json.loads(out)

    return call


@pytest.mark.parametrize("rule", ["token", "coupled"])
def test_a_schema_in_the_arguments_or_in_a_file(answer, tmp_path, rule):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    texts = []
    for flags in (("-j", json.dumps(SCHEMA)), ("--json-schema", file), ("--json-schema-file", file)):
        found = answer(*flags, "--rule", rule, "--temp", 0)
        assert json.loads(found["text"])["size"] in ("small", "large")
        assert found["finish_reason"] == "stop"
        texts.append(found["text"])
    assert texts[0] == texts[1] == texts[2]


def test_other_grammars(answer, tmp_path):
    assert answer("--choice", "yes", "--choice", "no")["text"] in ("yes", "no")
    assert len(answer("--regex", "[0-9]{7}", "--temp", 1)["text"]) == 7
    assert answer("--grammar", 'root ::= "a" ("b" | "c") "d"')["text"] in ("abd", "acd")
    (tmp_path / "g.lark").write_text('start: "x" /[yz]/')
    assert answer("--grammar-file", tmp_path / "g.lark")["text"] in ("xy", "xz")
    assert answer("--json-object")["text"].startswith("{")


def test_many_prompts_and_a_grammar(outrider, bytes_folder, tmp_path):
    source, to = tmp_path / "prompts.jsonl", tmp_path / "results.jsonl"
    source.write_text("\n".join(json.dumps({"prompt": text}) for text in ("One?", "Two?")))
    command = ("generate", "--input", source, "--output", to, "-m", bytes_folder, "-n", 60)
    assert outrider(*command, "-j", json.dumps(SCHEMA))[0] == 0
    results = [json.loads(line) for line in to.read_text().splitlines()]
    assert [sorted(json.loads(result["text"])) for result in results] == [["count", "size"]] * 2
    status, _, err = outrider(*command, "--choice", "yes")  # results of another grammar
    assert status == 2
    assert "settings" in err


def test_what_cannot_be_followed_is_refused_in_one_line(outrider, bytes_folder, folder, tmp_path):
    def refused(*arguments, model=bytes_folder):
        return refusal(outrider, PROMPT, "-m", model, *arguments)

    assert "--json-schema and --regex are both given" in refused("-j", "{}", "--regex", "a")
    assert "no-such-file does not exist" in refused("--grammar-file", tmp_path / "no-such-file")
    assert "is no JSON" in refused("-j", "{")
    assert "the JSON schema cannot be followed" in refused("-j", '{"type": "cat"}')
    assert "tokens of other bytes" in refused("--choice", "cat", model=folder)
