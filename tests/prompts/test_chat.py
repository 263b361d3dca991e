"""Conversations: chat templates that refuse, fail or are missing, and prompts that are too long."""

import pytest

from outrider import InputError, ModelError, SettingError, TableModel
from outrider.bench.comparison import run_comparison
from outrider.bench.systems import Measurement
from outrider.prompts.chat import Chat, encode, encode_messages, encode_within
from outrider.prompts.files import parse_prompts

WORDS = "abcdefgh<>|"
HEADER = "|g>"  # of the assistant
ROLES = {"user": "d", "system": "f", "assistant": "g"}


class Letters:
    """A tokenizer of one token a letter, whose chat template puts <role>text, and the assistant's header at the end."""

    fingerprint = "letters"

    def __init__(self, fails=None, has_template=True):
        self.fails = fails
        self.has_template = has_template

    def encode(self, text):
        return [WORDS.index(letter) for letter in text]

    def decode(self, tokens):
        return "".join(WORDS[token] for token in tokens)

    def encode_chat(self, messages):
        if self.fails is not None:
            raise self.fails
        if not self.has_template:
            return None
        return self.encode("".join(f"<{ROLES[message['role']]}>{message['content']}" for message in messages) + HEADER)


LETTERS = Letters()


def spelled(prompt, room=None, chat=None, tokenizer=LETTERS):
    if room is None:
        return tokenizer.decode(encode(prompt, tokenizer, "letters", chat))
    return tokenizer.decode(encode_within(prompt, tokenizer, "letters", room, chat))


USER = [{"role": "user", "content": "abc"}]


def test_text_is_a_users_message_where_there_is_a_template():
    assert spelled("abc") == "abc"
    assert spelled("abc", chat=Chat()) == "<d>abc|g>"
    assert spelled("abc", chat=Chat(use_template=False)) == "abc"
    assert spelled("abc", chat=Chat(), tokenizer=Letters(has_template=False)) == "abc"


def test_a_conversation_goes_through_the_template_at_every_door():
    assert spelled(USER) == spelled("abc", chat=Chat())
    assert spelled(USER, chat=Chat("hh")) == "<f>hh<d>abc|g>"
    own = [{"role": "system", "content": "c"}, *USER]
    assert spelled(own, chat=Chat("hh")) == "<f>c<d>abc|g>"


def test_token_ids_are_taken_as_they_are():
    assert encode([1, 2], None, "letters", Chat("hh")) == (1, 2)


@pytest.mark.parametrize(
    "prompt, chat, why",
    [
        (USER, None, "the prompt is a conversation and model letters has no chat template"),
        ("abc", Chat("hh"), "there is a system prompt and model letters has no chat template"),
        (USER, Chat(use_template=False), "the prompt is a conversation and the chat template is ignored"),
    ],
)
def test_what_needs_a_template_is_refused_where_there_is_none(prompt, chat, why):
    with pytest.raises(SettingError, match=why):
        encode(prompt, Letters(has_template=False), "letters", chat)


@pytest.mark.parametrize("prompt, what", [("abc", "a prompt of text"), (USER, "a conversation")])
def test_what_needs_a_tokenizer_is_refused_where_there_is_none(prompt, what):
    with pytest.raises(InputError, match=f"{what} needs a tokenizer and letters has none"):
        encode(prompt, None, "letters")


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), TypeError("no"), KeyError("x"), ValueError()])
def test_a_template_that_fails_refuses_the_prompt_alone(error):
    with pytest.raises(
        InputError, match=f"chat template of letters refuses the prompt .{type(error).__name__}: "
    ) as it:
        encode_messages(USER, Letters(error), "letters")
    assert len(str(it.value).splitlines()) == 1
    assert it.value.__cause__ is error


def test_an_error_of_ours_stays_what_it_is():
    with pytest.raises(ModelError, match="jinja2"):
        encode_messages(USER, Letters(ModelError("chat templates need jinja2")), "letters")


# Prompts that are too long


@pytest.mark.parametrize("room", range(6, 20))
def test_a_long_question_is_cut_in_the_users_text(room):
    text = "abcdefghabcd"
    cut = spelled(text, room, Chat())
    assert cut == f"<d>{text[: room - 6]}{HEADER}"


@pytest.mark.parametrize("room", [9, 12, 20])
def test_a_long_conversation_is_cut_in_the_last_text_of_the_user(room):
    messages = [*USER, {"role": "assistant", "content": "h"}, {"role": "user", "content": "fedcba"}]
    whole = "<d>abc<g>h<d>fedcba|g>"
    if room < len(whole) - 6:
        with pytest.raises(InputError, match="has 16 tokens without the user's text and letters has room for"):
            spelled(messages, room)
    else:
        assert spelled(messages, room) == f"<d>abc<g>h<d>{'fedcba'[: room - 16]}|g>"


def test_what_fits_is_not_cut():
    assert spelled("abc", 9, Chat()) == "<d>abc|g>"
    assert encode_within([1, 2], None, "letters", 2) == (1, 2)


def test_bare_text_is_cut_at_its_end():
    assert spelled("abcdef", 4) == "abcd"


@pytest.mark.parametrize("prompt", [[1, 2, 3], [{"role": "system", "content": "abc"}]])
def test_what_cannot_be_cut_is_refused(prompt):
    with pytest.raises(InputError, match="shorten it"):
        encode_within(prompt, LETTERS, "letters", 2)


def test_a_benchmark_keeps_the_assistants_header():
    target = TableModel.random(len(WORDS), 1, seed=0)
    target = TableModel(target.table, name="letters", tokenizer=LETTERS, context_length=20)
    questions = parse_prompts('{"prompt": "abcdefghabcdefghabcdefgh"}', "questions.jsonl")
    asked = []

    def system(prompt, max_tokens):
        asked.append(LETTERS.decode(prompt))
        return Measurement([0], 1.0, 1.0)

    run_comparison(questions, {"plain": system}, target, 8)
    assert asked == ["<d>abcdef|g>"]


# Real templates


@pytest.fixture(scope="module")
def hugging_face():
    pytest.importorskip("transformers")
    from tiny.tokenizers import byte_level

    return byte_level(["a", "b", "Ġ", "<", ">"])


FAILING = {
    "{{ 1 // 0 }}": "ZeroDivisionError: integer division or modulo by zero",
    "{{ messages[0].content + 1 }}": "TypeError: ",
    "{{ messages[7].content.upper() }}": "has no element 7",
    "{{ raise_exception('no system role') }}": "no system role",
    "{% for %}": "Expected an expression",
}


@pytest.mark.parametrize("template", FAILING)
def test_whatever_a_template_does_is_a_refusal(hugging_face, template):
    hugging_face.wrapped.chat_template = template
    with pytest.raises(InputError, match=f"the chat template of tiny refuses the prompt .*{FAILING[template]}"):
        encode(USER, hugging_face, "tiny")


def test_a_long_prompt_keeps_the_header_of_a_real_template(hugging_face):
    hugging_face.wrapped.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}b>"
    whole = hugging_face.decode(encode("ab" * 50, hugging_face, "tiny", Chat()))
    assert whole == f"<{'ab' * 50}>b>"
    for room in (4, 5, 40, 103):
        tokens = encode_within("ab" * 50, hugging_face, "tiny", room, Chat())
        assert len(tokens) <= room
        assert hugging_face.decode(tokens) == f"<{('ab' * 50)[: room - 4]}>b>"
