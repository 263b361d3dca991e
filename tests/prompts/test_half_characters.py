"""Half a character, as arguments and standard input that are no UTF-8 bring it, is refused in one line."""

import pytest

from outrider import InputError
from outrider.prompts.chat import Chat
from outrider.prompts.request import Request

HALF = b"caf\xe9".decode("utf-8", errors="surrogateescape")


@pytest.mark.parametrize("prompt", [HALF, [{"role": "user", "content": HALF}], "\ud83d"])
def test_half_a_character_in_a_prompt(prompt):
    with pytest.raises(InputError, match=r"^the prompt holds half a character, U\+D[0-9A-F]{3}, at place \d"):
        Request(prompt)
    Request("caf\xe9 \U0001f408")


def test_half_a_character_in_a_system_prompt():
    with pytest.raises(InputError, match="half a character"):
        Chat(HALF)
