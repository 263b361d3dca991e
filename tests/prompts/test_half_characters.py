"""Half a character, as arguments and standard input that are no UTF-8 bring it, is refused in one line."""

import pytest

from outrider import InputError
from outrider.prompts.chat import Chat
from outrider.prompts.request import Request
from outrider.text import Detokenizer

HALF = b"caf\xe9".decode("utf-8", errors="surrogateescape")


@pytest.mark.parametrize("prompt", [HALF, [{"role": "user", "content": HALF}], "\ud83d"])
def test_half_a_character_in_a_prompt(prompt):
    with pytest.raises(InputError, match=r"^the prompt holds half a character, U\+D[0-9A-F]{3}, at place \d"):
        Request(prompt)
    Request("caf\xe9 \U0001f408")


def test_half_a_character_in_a_system_prompt():
    with pytest.raises(InputError, match="half a character"):
        Chat(HALF)


class Bytes:
    """A token is a byte."""

    def __init__(self):
        self.decoded = 0

    def decode(self, tokens):
        self.decoded += len(tokens)
        return bytes(tokens).decode(errors="replace")


def pushed(tokens):
    tokenizer = Bytes()
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.push(token) for token in tokens]
    return pieces, detokenizer.flush(), tokenizer.decoded


def test_bytes_that_never_become_text_take_linear_time():
    garbage = [0xE9] * 20_000
    pieces, rest, decoded = pushed(garbage)
    assert "".join(pieces) + rest == bytes(garbage).decode(errors="replace")
    assert decoded < 40 * len(garbage)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 40, 1000])
def test_text_after_bytes_that_are_no_text_comes_at_once(length):
    tokens = [0xE9] * length + list("né 猫".encode())
    pieces, rest, _ = pushed(tokens)
    assert "".join(pieces) + rest == bytes(tokens).decode(errors="replace")
    assert pieces[length] or length >= 16
    assert "".join(pieces).endswith("né 猫")
    assert not rest


def test_text_of_tokens_that_split_characters_is_whole():
    words = list(("né 猫\U0001f408 " * 50).encode())
    pieces, rest, _ = pushed(words)
    assert "".join(pieces) + rest == bytes(words).decode()
    assert max(len(piece) for piece in pieces) == 1
