"""What token ids mean, and whether two tokenizers agree on it."""

import pytest

from outrider import ModelError, TableModel, VocabularyError
from outrider.drafters.loading import require_same_vocabulary
from outrider.text import fingerprint_of


class Pieces:
    """A tokenizer of which only the vocabulary matters."""

    def __init__(self, *vocabulary, special=()):
        self.vocabulary = vocabulary
        self.special_tokens = frozenset(special)
        self.fingerprint = fingerprint_of(self.vocabulary, self.special_tokens)

    def encode_chat(self, messages):
        return None


def model(tokenizer, width, name):
    return TableModel(TableModel.random(width, 1).table, name=name, tokenizer=tokenizer)


def differ(one, other, widths=(4, 4)):
    with pytest.raises(VocabularyError) as caught:
        require_same_vocabulary(model(one, widths[0], "small"), model(other, widths[1], "large"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_padding_is_no_difference():
    one = Pieces(b"a", b" b", b"<s>", special=[2])
    other = Pieces(b"a", b" b", b"<s>", None, None, special=[2])
    require_same_vocabulary(model(one, 3, "small"), model(other, 5, "large"))
    assert one.fingerprint == other.fingerprint


def test_the_first_token_that_differs_is_named():
    message = differ(Pieces(b"a", b" b", b"c"), Pieces(b"a", b"b", b"d"))
    assert "draft small has a vocabulary of 4 and target large one of 4" in message
    assert "token 1 is ' b' to the draft and 'b' to the target" in message


def test_a_token_that_only_one_has_is_a_difference():
    assert "token 1 is nothing to the draft and 'b' to the target" in differ(Pieces(b"a"), Pieces(b"a", b"b"))
    assert "token 0 is 'a' to the draft and nothing to the target" in differ(Pieces(b"a"), Pieces(None))


def test_a_special_token_is_not_the_text_of_its_name():
    one, other = Pieces(b"a", b"<s>", special=[1]), Pieces(b"a", b"<s>")
    assert "token 1 is the special token '<s>' to the draft and '<s>' to the target" in differ(one, other)
    assert one.fingerprint != other.fingerprint


def test_bytes_that_are_no_text_are_shown_as_bytes():
    assert r"token 0 is b'\xc3' to the draft and 'Ã' to the target" in differ(Pieces(b"\xc3"), Pieces("Ã".encode()))


def test_without_tokenizers_the_widths_must_be_equal():
    require_same_vocabulary(model(None, 4, "small"), model(Pieces(b"a"), 4, "large"))
    assert "the widths must be equal" in differ(None, None, (3, 4))


def fast(vocabulary, decoder, **special):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer

    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel({name: i for i, name in enumerate(vocabulary)}))
    plain.decoder = decoder(tokenizers.decoders)
    return HuggingFaceTokenizer(transformers.PreTrainedTokenizerFast(tokenizer_object=plain, **special))


def test_byte_level_names_are_read_as_bytes():
    tokenizer = fast(["a", "Ġb", "Ã", "Ċ", "<|end|>", "Ġé"], lambda d: d.ByteLevel(), eos_token="<|end|>")
    assert tokenizer.vocabulary == [b"a", b" b", b"\xc3", b"\n", b"<|end|>", b" \xe9"]
    assert tokenizer.special_tokens == {4}


def test_sentencepiece_names_are_read_as_bytes():
    def decoder(d):
        return d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])

    tokenizer = fast(["<unk>", "▁a", "b▁", "<0x0A>", "<0xFF>", "é"], decoder, unk_token="<unk>")
    assert tokenizer.vocabulary == [b"<unk>", b" a", b"b ", b"\n", b"\xff", "é".encode()]
    assert tokenizer.special_tokens == {0}


def test_wordpiece_names_are_read_as_bytes():
    tokenizer = fast(["a", "##b", "[PAD2]", "c"], lambda d: d.WordPiece(prefix="##"))
    assert tokenizer.vocabulary == [b" a", b"b", None, b" c"]


def test_gaps_in_a_vocabulary_are_padding():
    tokenizer = fast(["a", "b"], lambda d: d.ByteLevel())
    tokenizer.wrapped.get_vocab = lambda: {"a": 0, "b": 3}
    assert tokenizer.vocabulary == [b"a", None, None, b"b"]


def test_an_id_that_no_vocabulary_has_is_refused_at_once():
    tokenizer = fast(["a", "b"], lambda d: d.ByteLevel())
    tokenizer.wrapped.get_vocab = lambda: {"a": 0, "b": 2**31}  # a list of so many tokens would take gigabytes
    with pytest.raises(ModelError, match=r"token 'b' with the id 2147483648: ids are below 16777216"):
        _ = tokenizer.fingerprint
