"""The one reader of prompt files: what a line may say, and what is wrong with one that says something else."""

import json
from pathlib import Path

import pytest

from outrider import InputError, SamplingParams
from outrider.prompts.files import Defaults, parse_prompts, read_prompts

SOURCE = "prompts.jsonl"


def text_of(lines):
    return "\n".join(json.dumps(line) for line in lines)


def prompt_of(line, defaults=None):
    (prompt,) = parse_prompts(json.dumps(line), SOURCE, defaults)
    return prompt


BAD = {
    "no JSON": ("the cat", "no JSON"),
    "no object": ('["the cat"]', "no JSON object"),
    "nested": ("[" * 100_000, "no JSON"),
    "nothing": ('{"id": 1}', "it has none of these: give one of prompt, messages, tokens, turns"),
    "two prompts": ('{"prompt": "a", "tokens": [1]}', "it has prompt and tokens"),
    "empty": ('{"prompt": " "}', "prompt is empty"),
    "empty turn": ('{"turns": [""]}', "prompt is empty"),
    "no turn": ('{"turns": []}', "prompt is empty"),
    "turn of no text": ('{"turns": [3]}', "must be a text"),
    "no text": ('{"prompt": 3}', "prompt is 3"),
    "half a character": ('{"prompt": "a \\ud800"}', "half a character"),
    "half a character in a conversation": (
        '{"messages": [{"role": "user", "content": "\\ud800"}]}',
        "half a character",
    ),
    "half a character to stop at": ('{"prompt": "a", "stop": ["b", "\\udfff"]}', "half a character"),
    "no list of tokens": ('{"tokens": 7}', "tokens is 7: it must be a list"),
    "a single message": ('{"messages": {"role": "user", "content": "a"}}', "it must be a list"),
    "no tokens": ('{"tokens": []}', "prompt is empty"),
    "no token": ('{"tokens": [1.5]}', r"tokens\[0\] is 1.5: it must be a whole number"),
    "truth as token": ('{"tokens": [true]}', r"tokens\[0\] is True: it must be a whole number"),
    "no messages": ('{"messages": []}', "prompt is empty: give at least one message"),
    "message of no object": ('{"messages": ["hello"]}', r"messages\[0\] is 'hello': it must be an object"),
    "message of nobody": ('{"messages": [{"content": "a"}]}', r"messages\[0\].role is missing"),
    "message of parts": (
        '{"messages": [{"role": "user", "content": [1]}]}',
        r"messages\[0\].content is \[1\]: it must be a text",
    ),
    "no tokens wanted": ('{"prompt": "a", "max_tokens": 0}', "max_tokens is 0"),
    "half a token": ('{"prompt": "a", "max_tokens": 1.5}', "whole number"),
    "cold": ('{"prompt": "a", "temperature": -1}', "temperature is -1"),
    "truth as temperature": ('{"prompt": "a", "temperature": true}', "temperature is True: it must be a number"),
    "warm": ('{"prompt": "a", "temperature": "warm"}', "must be a number"),
    "not a number": ('{"prompt": "a", "top_p": NaN}', "top_p is nan"),
    "truth as number": ('{"prompt": "a", "top_k": true}', "whole number"),
    "large seed": ('{"prompt": "a", "seed": 18446744073709551616}', "seed is"),
    "empty stop": ('{"prompt": "a", "stop": [""]}', "stop string is empty"),
    "no stop": ('{"prompt": "a", "stop": 3}', "stop is 3"),
    "id of no kind": ('{"prompt": "a", "id": [1]}', "its id is"),
    "half a character in an id": ('{"prompt": "a", "id": "\\ud800"}', "there is half a character"),
    "a misspelt setting": ('{"prompt": "a", "temprature": 2}', "no setting 'temprature': did you mean temperature"),
    "a setting in capitals": ('{"prompt": "a", "topK": 2}', "no setting 'topK': did you mean top_k"),
    "a setting of another tool": ('{"prompt": "a", "max_new_tokens": 2}', "did you mean max_tokens"),
    "a setting that is not here": ('{"prompt": "a", "tools": []}', "tools cannot be set for one line"),
    "truth as id": ('{"prompt": "a", "id": true}', "its id is"),
}


def test_every_refusal_is_one_line_of_bounded_length():
    for line in [*(line for line, _ in BAD.values()), json.dumps({"prompt": "a", "id": ["x" * 10_000]})]:
        with pytest.raises(InputError) as caught:
            parse_prompts(line, SOURCE)
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_named(name):
    line, message = BAD[name]
    with pytest.raises(InputError, match=f"line 3 of {SOURCE} cannot be used: .*{message}"):
        parse_prompts('{"prompt": "a"}\n\n' + line, SOURCE)


@pytest.mark.parametrize("lines", [[{"id": "x"}, {"id": "x"}], [{}, {"id": 1}], [{"id": 2}, {}]])
def test_ids_that_are_there_twice_are_refused(lines):
    with pytest.raises(InputError, match=f"line 2 of {SOURCE} has the id .* and so has line 1"):
        parse_prompts(text_of([{"prompt": "a", **line} for line in lines]), SOURCE)


def test_ids_that_look_alike_are_not_the_same():
    prompts = parse_prompts('{"prompt": "a", "id": 1}\n{"prompt": "a", "id": "1"}', SOURCE)
    assert [prompt.id for prompt in prompts] == [1, "1"]


def test_lines_end_where_lines_end():
    prompts = parse_prompts('\ufeff{"prompt": "a\u2028b\x85"}\r\n \n{"prompt": "c"}\n', SOURCE)
    assert [(prompt.request.prompt, prompt.id) for prompt in prompts] == [("a\u2028b\x85", 1), ("c", 3)]


def test_a_file_without_prompts_is_refused():
    with pytest.raises(InputError, match="holds no prompt"):
        parse_prompts("\n\n", SOURCE)


def test_every_kind_of_prompt_is_read():
    assert prompt_of({"prompt": "a", "answer": "ignored"}).request.prompt == "a"
    assert prompt_of({"tokens": [1, 2]}).request.prompt == (1, 2)
    assert prompt_of({"turns": ["first", "second"]}).request.prompt == "first"
    message = {"role": "user", "content": "a", "name": "Ada"}
    assert prompt_of({"messages": [message]}).request.prompt == (message,)


@pytest.mark.parametrize("key", ["metadata", "reference", "prompt_id", "ID", "speed", "n_tokens", "topic", "custom_id"])
def test_keys_that_look_like_no_setting_are_ignored(key):
    assert prompt_of({"prompt": "a", key: "b", "tools": None}) == prompt_of({"prompt": "a"})


def test_a_line_says_what_differs_from_the_defaults():
    defaults = Defaults(6, SamplingParams(temperature=0.5, seed=11), stop=("x",))
    request = prompt_of({"prompt": "a", "top_k": 3, "min_p": None}, defaults).request
    assert (request.max_tokens, request.stop) == (6, ("x",))
    assert request.sampling == SamplingParams(temperature=0.5, top_k=3)
    own = prompt_of({"prompt": "a", "seed": 4, "stop": [], "max_tokens": 1}, defaults).request
    assert (own.max_tokens, own.stop, own.sampling.seed) == (1, (), 4)


def test_numbers_stay_what_they_are():
    """A fingerprint tells 0 from 0.0, and files of results are older than this reader."""
    assert type(prompt_of({"prompt": "a", "temperature": 0}).request.sampling.temperature) is int
    assert type(prompt_of({"prompt": "a", "temperature": 0.0}).request.sampling.temperature) is float


def test_questions_have_categories():
    line = {"question_id": 81, "category": "writing", "turns": ["the cat", "the mat"]}
    assert (prompt_of(line).category, prompt_of(line).text) == ("writing", "the cat")
    assert prompt_of({"prompt": "a"}).category == "all"


def test_a_file_of_text_has_a_prompt_a_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("the cat sat\n\n  the mat \n")
    assert [(prompt.id, prompt.text) for prompt in read_prompts(file)] == [(1, "the cat sat"), (3, "the mat")]
    file.write_text('{"prompt": "the cat"}\n')
    assert [prompt.text for prompt in read_prompts(file)] == ["the cat"]


@pytest.mark.parametrize(
    "content, message", [(None, "does not exist"), (b"\xff", "cannot be read as text"), (b"\n", "holds no prompt")]
)
def test_a_file_that_holds_no_text_is_refused(tmp_path, content, message):
    file = tmp_path / "prompts.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_prompts(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_prompts(Path(tmp_path))
