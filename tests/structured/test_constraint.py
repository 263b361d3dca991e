"""Grammars as masks: which tokens may follow, where a text may end, and what is refused."""

import json
import pickle
import random
import threading

import numpy as np
import pytest

pytest.importorskip("llguidance")

from pydantic import BaseModel

from outrider import InputError, SettingError, SpeculativeDecoder, VocabularyError
from outrider.maths.arrays import to_numpy
from outrider.structured import Grammar, GrammarConstraint, choice, grammar, json_object, json_schema, regex
from tiny.pieces import Pieces, bytes_and_words, json_table

TOKENIZER = bytes_and_words()
SIZE = len(TOKENIZER.vocabulary)
END = TOKENIZER.token("</s>")
STOP = frozenset({END})
POINT = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "value": {"type": "integer"}},
    "required": ["name", "value"],
    "additionalProperties": False,
}


def constraint(made, stop=STOP, size=SIZE, tokenizer=TOKENIZER):
    return GrammarConstraint(made, tokenizer, size, stop)


def follows(made, text, **how):
    """What may follow a text, as pieces."""
    allowed = constraint(made, **how).allowed(TOKENIZER.encode(text))
    return {TOKENIZER.vocabulary[token].decode(errors="replace") for token in np.flatnonzero(allowed)}


def accepts(made, text):
    found = constraint(made)
    tokens = TOKENIZER.encode(text)
    return found.admits(tokens) and bool(found.allowed(tokens)[END])


def nested(levels):
    schema = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def test_stop_tokens_are_allowed_exactly_where_the_grammar_may_end():
    number = regex("[0-9]+")
    assert "</s>" not in follows(number, "")
    assert follows(number, "1") == {*"0123456789", "10", "</s>"}
    assert follows(choice(["no", "now"]), "no") == {"w", "</s>"}
    assert follows(choice(["no", "now"]), "now") == {"</s>"}


def test_without_a_stop_token_a_complete_text_is_left_as_it_is():
    found = constraint(choice(["no", "now"]), stop=frozenset())
    assert set(np.flatnonzero(found.allowed(TOKENIZER.encode("no")))) == {TOKENIZER.token("w")}
    assert found.allowed(TOKENIZER.encode("now")) is None
    logits = np.zeros(SIZE, dtype=np.float32)
    assert found(TOKENIZER.encode("now"), logits) is logits
    assert found.ended(TOKENIZER.encode("now"))
    assert not found.ended(TOKENIZER.encode("no"))


@pytest.mark.parametrize(
    "made, good, bad",
    [
        (json_schema(POINT), '{"name": "Ada", "value": -3}', '{"name": "Ada"}'),
        (json_schema(json.dumps(POINT)), '{"name": "Ada", "value": 10}', '{"value": 10, "name": "Ada"}'),
        (json_schema(POINT), '{"name": "Ada", "value": 10}', '{"name":"Ada","value":10}'),
        (json_schema(POINT, whitespace=True), '{ "name":"Ada",\n"value" : 10}', '{"name": "Ada Lovelace", "value": 1}'),
        (json_schema(True), "[1, null]", "[1, nil]"),
        (json_object(), '{"a": [1.5e3, true, {"b": ""}]}', "[1]"),
        (regex(r"\d{3}-[a-c]+/x"), "123-abca/x", "12-abc/x"),
        (choice(["yes", 'say "no"', "naïve"]), 'say "no"', "yes no"),
        (choice(["yes", 'say "no"', "naïve"]), "naïve", "naive"),
        (grammar('start: "a" inner? "b"\ninner: /[xy]+/'), "axyxb", "axzb"),
        (grammar('root ::= "a" item*\nitem ::= [0-9] | "," '), "a1,2", "b1"),
    ],
)
def test_texts_that_are_in_a_language_and_texts_that_are_not(made, good, bad):
    assert accepts(made, good)
    assert not accepts(made, bad)


@pytest.mark.parametrize("text", ['a\\b"', "\n\t\x7f\x00", "[a-z]+ 🙂\u2028", "\\n", '"i'])
def test_choices_are_taken_letter_by_letter(text):
    assert accepts(choice([text, "other"]), text)


def test_a_class_of_pydantic_is_a_schema():
    class Pet(BaseModel):
        name: str
        legs: int

    assert accepts(json_schema(Pet), '{"name": "Rex", "legs": 4}')
    assert not accepts(json_schema(Pet), '{"name": "Rex"}')


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: json_schema("{"), "is no JSON"),
        (lambda: json_schema([1]), "the JSON schema is a list: give an object"),
        (lambda: json_schema({"type": object}), "is no JSON"),
        (lambda: json_schema("[" * 100_000), "is nested too deeply"),
        (lambda: json_schema(nested(2000)), "is nested too deeply"),
        (lambda: constraint(json_schema({"type": "cat"})), "the JSON schema cannot be followed: .*cat"),
        (lambda: constraint(json_schema({"type": "object", "propertyNames": {"minLength": 2}})), "propertyNames"),
        (lambda: regex(""), "regular expression is ''"),
        (lambda: constraint(regex("(")), "the regular expression cannot be followed"),
        (lambda: choice([]), "the choices are"),
        (lambda: choice("yes"), "the choices are 'yes'"),
        (lambda: grammar(" "), "the grammar is ' '"),
        (lambda: constraint(grammar("start: nothing")), "the grammar cannot be followed: unknown name"),
        (lambda: grammar("root ::= ("), "the grammar cannot be read"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(make, message):
    with pytest.raises(SettingError, match=message) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_answers_depend_on_the_text_alone_whatever_was_asked_before():
    generator = random.Random(3)
    asked = constraint(json_schema(POINT))
    texts = [TOKENIZER.encode(text) for text in ('{"name": "Ada", "value": 10}', '{"name": "x}\\"", "value": -1', "{")]
    for _ in range(150):
        text = generator.choice(texts)
        text = text[: generator.randrange(len(text) + 1)] + generator.choices(range(SIZE), k=generator.randrange(3))
        fresh = constraint(json_schema(POINT))
        assert asked.admits(text) == fresh.admits(text)
        assert np.array_equal(asked.allowed(text), fresh.allowed(text))
        assert asked.forced(text) == fresh.forced(text)
        assert asked.ended(text) == fresh.ended(text)


def test_many_texts_are_followed_at_once_in_bounded_memory():
    found = constraint(json_object())
    texts = [TOKENIZER.encode('{"a": "' + f"{number:>03}" * 30) for number in range(100)]
    for text in texts:
        for length in (1, 50, 60):
            assert found.admits(text[:length])
    assert found.allowed(texts[0][:60]).sum() == constraint(json_object()).allowed(texts[0][:60]).sum()


def test_threads_may_share_one():
    found = constraint(json_schema(POINT))
    text = TOKENIZER.encode('{"name": "Ada", "value": 10}')
    expected = [constraint(json_schema(POINT)).allowed(text[:length]).sum() for length in range(len(text))]
    wrong = []

    def ask(step):
        for place in range(0, len(text) * 20, step):
            length = place % len(text)
            if found.allowed(text[:length]).sum() != expected[length]:
                wrong.append(length)

    threads = [threading.Thread(target=ask, args=(step,)) for step in (1, 3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_certain_tokens_are_those_that_the_tokenizer_writes():
    found = constraint(json_schema(POINT))
    assert TOKENIZER.decode(found.forced([])) == '{"name": '
    assert found.forced([]) == TOKENIZER.encode('{"name": ')
    assert found.forced(TOKENIZER.encode('{"name": "Ad')) == []
    assert found.forced(TOKENIZER.encode("[")) == []  # which it bans


def test_logits_wider_than_the_vocabulary_are_masked_as_a_whole():
    found = constraint(choice(["a", "b"]), size=SIZE + 7)
    masked = found([], np.zeros(SIZE + 7, dtype=np.float32))
    assert np.flatnonzero(masked == 0).tolist() == sorted(TOKENIZER.encode("ab"))


@pytest.mark.parametrize("library", ["numpy", "torch", "mlx"])
def test_a_mask_is_put_on_in_the_library_of_the_logits(library):
    values = np.linspace(-2, 2, SIZE, dtype=np.float32)
    logits = values
    if library == "torch":
        logits = pytest.importorskip("torch").from_numpy(values.copy())
    elif library == "mlx":
        logits = pytest.importorskip("mlx.core").array(values)
    found = constraint(regex("[ab]+"))
    masked = found([], logits)
    assert type(masked) is type(logits)
    allowed = found.allowed([])
    assert np.array_equal(to_numpy(masked), np.where(allowed, values, -np.inf))
    assert np.array_equal(to_numpy(logits), values)  # as it was given


def test_tokenizers_whose_tokens_are_no_pieces_of_text_are_refused():
    from tiny.tokenizers import byte_level, sentencepiece, wordpiece

    words = wordpiece(["the", "cat", "sat", "##s", "a", "##a", "c", "##c"])
    with pytest.raises(VocabularyError, match="byte-level BPE or SentencePiece"):
        constraint(choice(["cat"]), tokenizer=words, size=len(words.vocabulary))
    for tokenizer in (
        byte_level(["c", "a", "t", "Ġ", "s", "at", "cat", "Ġcat"]),
        sentencepiece(["▁", "c", "a", "t", "s", "at", "▁cat", "cat"]),
        sentencepiece(["▁", "c", "a", "t", "s", "at", "▁cat", "cat"], bos="<s>", legacy=False),
    ):
        found = constraint(choice(["cat cat"]), tokenizer=tokenizer, size=len(tokenizer.vocabulary), stop=frozenset())
        written = found.forced([])
        assert b"".join(tokenizer.vocabulary[token] for token in written) == b"cat cat"
        assert len(written) < 5  # in its own words


def test_a_grammar_of_letters_that_no_token_has_is_refused_when_it_comes_to_them():
    letters = Pieces(["a", "b"])
    found = constraint(regex("a[xy]"), tokenizer=letters, size=2, stop=frozenset())
    assert found.allowed([]).tolist() == [True, False]
    with pytest.raises(InputError, match="wants text that no token of the vocabulary can begin"):
        found.allowed([0])


def test_two_tokens_of_the_same_bytes_may_both_follow():
    twice = Pieces(["a", "b", "a"])
    allowed = constraint(regex("[ac]+"), tokenizer=twice, size=3, stop=frozenset()).allowed([])
    assert allowed.tolist() == [True, False, True]


def test_a_grammar_crosses_processes():
    assert pickle.loads(pickle.dumps(json_schema(POINT))) == json_schema(POINT)


# Through a decoder


def test_a_text_ends_with_its_grammar():
    target = json_table(TOKENIZER, 5)
    found = SpeculativeDecoder(None, target).generate("x", structured=choice(["true", "false"]), seed=1, max_tokens=30)
    assert found.text in ("true", "false")
    assert str(found.finish_reason) == "stop"
    assert END not in found.tokens
    several = SpeculativeDecoder(None, target).generate("x", structured=regex("(ab){1,3}"), n=4, seed=2, max_tokens=30)
    assert all(each.text == "ab" * (len(each.text) // 2) and each.text for each in several)


def test_certain_tokens_are_drafted_for_nothing():
    target = json_table(TOKENIZER, 6)
    found = SpeculativeDecoder(None, target).generate("x", structured=json_schema(POINT), seed=4, max_tokens=200)
    json.loads(found.text)
    certain = len(TOKENIZER.encode('{"name": ')) + len(TOKENIZER.encode('"value": '))
    assert found.stats.rounds <= len(found.tokens) - certain + 2
    assert found.stats.drafted == found.stats.accepted > 0


def test_a_grammar_needs_a_tokenizer_and_a_grammar():
    from outrider import TableModel

    with pytest.raises(SettingError, match="structured output needs a tokenizer and table has none"):
        SpeculativeDecoder(None, TableModel(np.zeros(3), name="table")).generate([1], structured=choice(["a"]))
    with pytest.raises(SettingError, match="structured is 'json': it must be a Grammar"):
        SpeculativeDecoder(None, json_table(TOKENIZER, 7)).generate("x", structured="json")


def test_a_grammar_that_the_target_cannot_follow_further_fails_alone(monkeypatch):
    found = constraint(Grammar("start: /a/"))
    monkeypatch.setattr("outrider.structured.cursors.Cursors.at", lambda self, text: _Broken())
    with pytest.raises(InputError, match="too complex to go on with"):
        found.allowed([])


class _Broken:
    def is_stopped(self):
        return True

    def is_error(self):
        return True

    def get_error(self):
        return "too many states"

    def compute_bitmask(self):
        return bytes(SIZE)


def test_tools_need_a_conversation():
    with pytest.raises((SettingError, InputError), match="tools need a conversation"):
        SpeculativeDecoder(None, json_table(TOKENIZER, 7)).generate("x", tools=[{"name": "f"}])
