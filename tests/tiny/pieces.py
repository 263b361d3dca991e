"""A tokenizer of given pieces, which takes the longest that fits, and tables over it that like to come to an end."""

import numpy as np

from outrider import TableModel
from outrider.text import fingerprint_of

JSON_WORDS = ("true", "false", "null", '{"', '": ', '", "', "}", "name", "value", "item", "the", " a", "10")


class Pieces:
    """Tokens are the pieces, then the special tokens by their names."""

    chat_template = None

    def __init__(self, pieces, special=()):
        self.vocabulary = [piece.encode() if isinstance(piece, str) else piece for piece in (*pieces, *special)]
        self.special_tokens = frozenset(range(len(self.vocabulary) - len(special), len(self.vocabulary)))
        self.fingerprint = fingerprint_of(self.vocabulary, self.special_tokens)
        self._token_of = {piece: token for token, piece in reversed(list(enumerate(self.vocabulary)))}
        self._longest = max(map(len, self.vocabulary))

    def token(self, name):
        return self._token_of[name.encode()]

    def encode(self, text):
        data, tokens = text.encode(), []
        while data:
            fitting = (data[:length] for length in range(self._longest, 0, -1) if data[:length] in self._token_of)
            piece = next((piece for piece in fitting if self._token_of[piece] not in self.special_tokens), b"")
            tokens += [self._token_of[piece]] if piece else []
            data = data[len(piece) or 1 :]
        return tokens

    def decode(self, tokens):
        pieces = (self.vocabulary[token] for token in tokens if token not in self.special_tokens)
        return b"".join(pieces).decode(errors="replace")

    def encode_chat(self, messages, tools=()):
        return self.encode("".join(str(message["content"]) for message in messages))


def bytes_and_words(words=JSON_WORDS, special=("</s>",)):
    """Every byte, some words of JSON, and a token that ends a text."""
    return Pieces([*(bytes([byte]) for byte in range(256)), *words], special)


def json_table(tokenizer, seed, *, order=1, closing=2.0):
    """A random table that likes printable characters, and still more what closes a document."""
    size = len(tokenizer.vocabulary)
    table = np.random.default_rng(seed).normal(0, 1.5, (size,) * (order + 1)).astype(np.float32)
    printable = [token for token, piece in enumerate(tokenizer.vocabulary) if piece.decode(errors="replace").isascii()]
    table[..., [token for token in range(size) if token not in printable]] -= 6
    ends = [token for token, piece in enumerate(tokenizer.vocabulary) if piece and piece[:1] in b'"}],']
    table[..., ends] += closing
    table[..., sorted(tokenizer.special_tokens)] += closing
    return TableModel(
        table, name=f"json-table-{seed}", tokenizer=tokenizer, stop_token_ids=frozenset(tokenizer.special_tokens)
    )
