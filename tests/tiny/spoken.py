"""A table model that speaks: every byte is a token, and there is a chat template. Servers are tested with it."""

import numpy as np

from outrider import TableModel
from outrider.text import fingerprint_of

BYTES = 256
END = 256
SYSTEM, USER, ASSISTANT, TOOL = range(257, 261)
ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}
SPECIAL = ["<end>", "<system>", "<user>", "<assistant>", "<tool>"]
LETTERS = b" abcdefghijklmnopqrstuvwxyz"


class ByteTokenizer:
    """A token for each byte, and one for each role."""

    vocabulary = [bytes([byte]) for byte in range(BYTES)] + [name.encode() for name in SPECIAL]
    special_tokens = frozenset(range(BYTES, BYTES + len(SPECIAL)))
    chat_template = "messages"

    @property
    def fingerprint(self):
        return fingerprint_of(self.vocabulary, self.special_tokens)

    def encode(self, text):
        return list(text.encode())

    def decode(self, tokens):
        return bytes(token for token in tokens if token < BYTES).decode("utf-8", "replace")

    def encode_chat(self, messages, tools=()):
        found = []
        for message in messages:
            found += [ROLES[message["role"]], *self.encode(message["content"])]
        return [*found, ASSISTANT]


def model(*, seed=1, ends=False, context=4096, spread=3.0):
    """Letters that follow one another by a table of the last token.

    Args:
        ends: whether a text may end by itself.
    """
    size = BYTES + len(SPECIAL)
    table = np.full((size, size), -30.0)
    table[:, list(LETTERS)] = np.random.default_rng(seed).normal(0, spread, (size, len(LETTERS)))
    if ends:
        table[:, END] = 0.0
    return TableModel(
        table, name="spoken", stop_token_ids=frozenset([END]), context_length=context, tokenizer=ByteTokenizer()
    )
