"""Token ids become text as they come: spaces between prompt and output, characters in several tokens, bytes that are
no text."""

import numpy as np
import pytest

from outrider import SpeculativeDecoder, TableModel
from outrider.prompts.chat import Chat
from outrider.prompts.request import Request, prepare_request
from outrider.text import Detokenizer
from tiny import gguf as tiny_gguf

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["▁the", "▁cat", "▁sat", "s", "▁", *BYTES]
TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"


class Bytes:
    """A token is a byte; 256 is special, and 257 pads the vocabulary."""

    vocabulary = (*(bytes([byte]) for byte in range(256)), b"<end>", None)
    special_tokens = frozenset([256])

    def __init__(self):
        self.decoded = 0

    def decode(self, tokens):
        self.decoded += len(tokens)
        return bytes(token for token in tokens if token < 256).decode(errors="replace")


def pushed(tokens, tokenizer=None, before=()):
    """The text of each token, and what is left at the end."""
    detokenizer = Detokenizer(tokenizer or Bytes(), before)
    return [detokenizer.push(token) for token in tokens], detokenizer.flush()


def shown(tokens, tokenizer=None, before=()):
    pieces, rest = pushed(tokens, tokenizer, before)
    return "".join(pieces) + rest


def sentencepiece(**settings):
    from tiny.tokenizers import sentencepiece as build

    return build(PIECES, bos="<s>", **settings)


def file_tokenizer(folder):
    pytest.importorskip("llama_cpp")
    import outrider

    return outrider.load(tiny_gguf.save(folder / "tiny.gguf", words=tiny_gguf.WORDS), threads=1).tokenizer


@pytest.fixture(params=["prepend", "metaspace", "gguf"])
def tokenizer(request, tmp_path):
    """Tokenizers that drop the space before the first word of a text."""
    if request.param == "gguf":
        return file_tokenizer(tmp_path)
    return sentencepiece(legacy=request.param == "prepend")


def ids(tokenizer, *pieces):
    names = [name.decode() for name in (piece or b"" for piece in tokenizer.vocabulary[:20])]
    return [names.index(piece) for piece in pieces]


def test_the_first_word_after_a_prompt_keeps_its_space(tokenizer):
    before = tokenizer.encode("the cat")
    assert shown(ids(tokenizer, " sat", " the"), tokenizer, before) == " sat the"
    assert shown(ids(tokenizer, "s", " the"), tokenizer, before) == "s the"
    assert shown(ids(tokenizer, " sat", " the"), tokenizer) == "sat the"


def test_spaces_beside_spaces_are_kept(tokenizer):
    space, sat = ids(tokenizer, " ", " sat")
    before = tokenizer.encode("the cat")
    assert shown([space, space, sat], tokenizer, before) == "   sat"
    assert shown([space, space, sat], tokenizer) == "  sat"
    assert shown([sat], tokenizer, [*before, space]) == " sat"


def test_a_prompt_that_ends_in_a_special_token_begins_a_text(tokenizer):
    begin = next(token for token in sorted(tokenizer.special_tokens) if tokenizer.vocabulary[token] == b"<s>")
    assert shown(ids(tokenizer, " sat"), tokenizer, [begin]) == "sat"
    assert shown([*ids(tokenizer, " sat"), begin, *ids(tokenizer, " the")], tokenizer, [begin]) == "sat the"


@pytest.mark.parametrize("backend", ["prepend", "metaspace"])
def test_prompt_and_text_read_right_at_every_door(backend):
    words = sentencepiece(legacy=backend == "prepend")
    words.wrapped.chat_template = TEMPLATE
    sat = ids(words, " sat")[0]
    logits = np.zeros(len(words.vocabulary))
    logits[sat] = 9.0
    target = TableModel(logits, name="table", tokenizer=words)
    decoder = SpeculativeDecoder(None, target, 0)

    def text(prompt):
        with decoder.stream(prompt, max_tokens=2, temperature=0) as stream:
            events = "".join(event.text for event in stream)
        assert events == stream.generation().text
        return events

    assert "the cat" + text("the cat") == "the cat sat sat"
    assert text(words.encode("the cat")) == " sat sat"
    assert text([{"role": "user", "content": "the cat"}]) == "sat sat"
    prepared = prepare_request(Request("the cat"), target, words, Chat())
    assert not prepared.continues
    assert prepare_request(Request("the cat"), target, words, Chat(use_template=False)).continues


def test_the_text_of_mlx_models_keeps_the_space():
    loading = pytest.importorskip("mlx_lm.tokenizer_utils")
    from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer

    words = HuggingFaceTokenizer(loading.TokenizerWrapper(sentencepiece().wrapped))
    assert shown(ids(words, " sat"), words, words.encode("the cat")) == " sat"


def test_characters_in_several_tokens_come_whole():
    words = list(("né 猫\U0001f408 " * 50).encode())
    pieces, rest = pushed(words)
    assert "".join(pieces) + rest == bytes(words).decode()
    assert max(len(piece) for piece in pieces) == 1


GARBAGE = {
    "never a character": [0xFF],
    "begins one": [0xE9],
    "continues none": [0x80],
    "begins one, and another": [0xF0, 0x9F],
    "almost one": [0xF0, 0x9F, 0x90, 0x41],
    "too long": [0xF8, 0x80, 0x80, 0x80, 0x80],
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_bytes_that_never_become_text_are_shown_as_they_come(garbage):
    tokens = (garbage * 2000)[:2000]
    tokenizer = Bytes()
    pieces, rest = pushed(tokens, tokenizer)
    assert "".join(pieces) + rest == bytes(tokens).decode(errors="replace")
    seen = 0
    for place, piece in enumerate(pieces, start=1):
        seen += len(piece)
        assert seen >= len(bytes(tokens[: max(place - 3, 0)]).decode(errors="ignore"))
        assert seen >= place // 4 - 1
    assert tokenizer.decoded <= 8 * len(tokens)


def test_tokens_that_always_end_amid_a_character_are_shown():
    class Pairs(Bytes):
        vocabulary = (b"\x82\xac\xe2", b"\xff\xe2", b" a")
        special_tokens = frozenset()

        def decode(self, tokens):
            self.decoded += len(tokens)
            return b"".join(self.vocabulary[token] for token in tokens).decode(errors="replace")

    tokenizer = Pairs()
    pieces, rest = pushed([1, *[0] * 1000, *[1] * 1000, 2], tokenizer)
    assert pieces[:3] == ["�", "€", "€"]
    assert "".join(pieces) + rest == "�" + "€" * 1000 + "��" * 1000 + "� a"
    assert tokenizer.decoded < 10_000


@pytest.mark.parametrize("length", [1, 15, 16, 17, 40, 1000])
def test_text_after_bytes_that_are_no_text_comes_at_once(length):
    tokens = [0xE9] * length + list("né 猫".encode())
    pieces, rest = pushed(tokens)
    assert "".join(pieces) + rest == bytes(tokens).decode(errors="replace")
    assert pieces[length] == "�n"
    assert not rest


def test_bytes_of_sentencepiece_are_read_as_those_of_others(tokenizer):
    def spelled(text):
        return [tokenizer.vocabulary.index(bytes([byte]), 6) for byte in text]

    the = ids(tokenizer, " the")
    for data in ("€ ~~".encode(), b"\xff\xe2\x82\xac~", b"\xe2\x82\xac\xff~", b"\xe2\x82~\xff", b"\xe2\x82"):
        tokens = [*the, *spelled(data), *the]
        assert shown(tokens, tokenizer) == (b"the" + data + b" the").decode(errors="replace")


def test_a_prompt_that_ends_amid_a_character():
    assert shown([0x82, 0xAC], before=[0x41, 0xE2]) == "€"
    assert shown([0x41], before=[0x41, 0xE2]) == "�A"


def test_tokens_without_text_are_passed_over():
    pieces, rest = pushed([0x41, *[256, 257] * 500, 0xE2, 256, 0x82, 257, 0xAC], tokenizer := Bytes())
    assert "".join(pieces) + rest == "A€"
    assert tokenizer.decoded < 6000


class Unspelled:
    """The same tokenizer, which does not say that a text is the bytes of its tokens."""

    def __init__(self, tokenizer):
        self.vocabulary = tokenizer.vocabulary
        self.special_tokens = tokenizer.special_tokens
        self.decode = tokenizer.decode


@pytest.mark.parametrize("seed", range(8))
def test_tokens_that_are_spelled_come_as_those_that_are_decoded(seed):
    from outrider.runtimes.tokenizers.byte_level import byte_alphabet
    from tiny.tokenizers import byte_level

    words = byte_level([*byte_alphabet(), "th", "Ġt", "Ã©", "ðŁ"], added=["<tool>"])  # two letters, " t", é, half a cat
    assert words.speller() is not None
    rng = np.random.default_rng(seed)
    # Of all tokens, and of bytes that mostly begin or continue a character; some ids are beyond the vocabulary.
    tokens = rng.integers(len(words.vocabulary) + 2, size=400)
    amid = [token for token, piece in enumerate(words.vocabulary) if piece and piece[0] >= 0x80]
    tokens = np.where(rng.random(400) < 0.5, rng.choice(amid, 400), tokens).tolist()
    for before in ([], tokens[:1], tokens[:7], [*tokens[:7], min(words.special_tokens)]):
        assert pushed(tokens[7:], words, before) == pushed(tokens[7:], Unspelled(words), before)


def test_a_tokenizer_whose_words_lose_their_space_does_not_spell():
    assert sentencepiece().speller() is None
