"""One text in the tokens of two tokenizers, and drafts that cross from one to the other."""

import random
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import (
    Drafter,
    Engine,
    FunctionModel,
    IntersectionDrafter,
    ModelDrafter,
    Request,
    SamplingParams,
    SpeculativeDecoder,
    StringDrafter,
    TableModel,
    VocabularyError,
)
from outrider.drafters.across import transcript as transcript_module
from outrider.drafters.across.encoder import whole_characters
from outrider.drafters.across.transcript import Transcript, segment_end
from outrider.drafters.across.translation import NONE, Translation
from outrider.drafters.cache import DraftCache

tiny_tokenizers = pytest.importorskip("tiny.tokenizers")
byte_level, sentencepiece, wordpiece = (
    tiny_tokenizers.byte_level,
    tiny_tokenizers.sentencepiece,
    tiny_tokenizers.wordpiece,
)

LETTERS = list("abcdehlnotuwxé")
# "é" is two bytes, and in byte-level notation two characters.
BYTES = byte_level(
    ["a", "b", "c", "d", "o", "n", "u", "t", "h", "e", "x", "Ġ", "Ċ", "Ã", "©", "un", "do", "undo", "th", "the", "Ġthe"]
)
LLAMA = sentencepiece(["▁", *LETTERS, "\n", "▁the", "▁un", "▁undo", "do", "the"], bos="<s>")
MODERN = sentencepiece(["▁", *LETTERS, "▁the", "▁un", "do"], legacy=False)
FOLDED = sentencepiece(["▁", *LETTERS, "▁the"], lower=True)
BERT = wordpiece([*"abcdehnotuwx", *(f"##{letter}" for letter in "abcdehnotuwx"), "the", "un", "##do"])
ALL = {"byte-level": BYTES, "llama": LLAMA, "modern": MODERN, "folded": FOLDED, "bert": BERT}


def model(tokenizer, seed=0, stop=()):
    width = len(tokenizer.vocabulary)
    return TableModel(TableModel.random(width, 1, seed=seed).table, tokenizer=tokenizer, stop_token_ids=frozenset(stop))


def between(draft, target):
    return Translation(model(draft), model(target))


def ids(tokenizer, *pieces):
    numbers = {piece: number for number, piece in enumerate(tokenizer.vocabulary)}
    return [numbers[piece.encode() if isinstance(piece, str) else piece] for piece in pieces]


def pieces(tokenizer, tokens):
    return [tokenizer.vocabulary[token].decode() for token in tokens]


def context(draft, target, *spelled):
    """What the draft model is shown of a text given in the target's tokens."""
    tokens = Transcript(between(draft, target)).follow(ids(target, *spelled))
    return pieces(draft, tokens)


def proposed(draft, target, before, text):
    """What the target's tokenizer makes of a drafted text behind tokens that stand."""
    return pieces(target, between(draft, target).target.following(ids(target, *before), text))


# The intersection.


def test_tokens_of_the_same_bytes_are_the_same_token():
    shared = between(LLAMA, BYTES).draft_tokens
    for piece in ("a", "the", " the", "do", "\n", " "):
        assert shared[ids(BYTES, piece)[0]] == ids(LLAMA, piece)[0]
    for piece in (b"\xc3", "th", "undo"):
        assert shared[ids(BYTES, piece)[0]] == NONE


def test_a_word_of_wordpiece_begins_with_a_space():
    shared = between(BERT, BYTES).draft_tokens
    assert shared[ids(BYTES, " the")[0]] == ids(BERT, " the")[0]
    assert shared[ids(BYTES, "the")[0]] == NONE
    assert shared[ids(BYTES, "do")[0]] == ids(BERT, "do")[0]


@pytest.mark.parametrize("draft", ALL)
@pytest.mark.parametrize("target", ALL)
def test_no_two_tokens_of_the_target_are_one_of_the_draft_model(draft, target):
    found = [token for token in between(ALL[draft], ALL[target]).draft_tokens if token != NONE]
    assert len(found) == len(set(found)) == between(ALL[draft], ALL[target]).shared


def test_a_special_token_is_the_same_where_it_has_the_same_name():
    assert between(LLAMA, BYTES).draft_tokens[ids(BYTES, "</s>")[0]] == ids(LLAMA, "</s>")[0]
    assert between(BERT, BYTES).draft_tokens[ids(BYTES, "</s>")[0]] == NONE


def test_tokens_that_end_a_text_are_the_same_whatever_their_names():
    (end_of_target,), (end_of_draft,) = ids(BYTES, "</s>"), ids(BERT, "[SEP]")
    found = Translation(model(BERT, stop=[end_of_draft]), model(BYTES, stop=[end_of_target]))
    assert found.draft_tokens[end_of_target] == end_of_draft
    assert found.target_token(end_of_draft) == end_of_target


def test_a_text_ends_with_the_end_of_a_turn():
    (end,) = ids(BERT, "[SEP]")
    chat = byte_level(["a"], end=None, added=["<|endoftext|>", "<|im_end|>", "<|repo_name|>"])
    found = Translation(model(BERT, stop=[end]), model(chat, stop=[1, 2, 3]))
    assert found.target_token(end) == 2


def test_a_byte_and_the_character_that_it_is_are_told_apart():
    fallback = sentencepiece(["▁", "<0x61>", "b", "a"])
    shared = between(fallback, BYTES).draft_tokens
    assert shared[ids(BYTES, "a")[0]] == fallback.wrapped.convert_tokens_to_ids("a")


def test_an_added_token_that_is_text_is_text():
    spaced = byte_level(["a", "Ċ", "Ġ"], added=["\n\n"])
    assert between(LLAMA, spaced).target.piece(spaced.encode("\n\n")[0]) == b"\n\n"
    assert context(LLAMA, spaced, "a", "\n\n", "a") == ["<s>", " ", "a", "\n", "\n", "a"]
    assert proposed(LLAMA, spaced, ["a"], "\n\na") == ["\n\n", "a"]
    assert between(spaced, byte_level(["a", "Ċ", "ĊĊ"])).shared == 4  # and </s>


# What the draft model is shown.


def test_the_text_is_encoded_as_the_draft_models_tokenizer_writes_it():
    assert context(LLAMA, BYTES, "un", "do", " the") == ["<s>", " undo", " the"]
    assert context(BYTES, LLAMA, "<s>", " undo", " the") == ["undo", " the"]
    assert context(BERT, BYTES, "un", "do", " the") == ["[CLS]", " un", "do", " the"]


def test_the_space_at_the_beginning_of_a_text_is_not_in_the_text():
    assert context(BYTES, MODERN, " the", "a") == ["the", "a"]
    assert context(BYTES, BYTES, " the", "a") == [" the", "a"]
    assert context(BYTES, BERT, "[CLS]", " the") == ["the"]


def test_text_in_the_middle_gets_no_space():
    assert pieces(LLAMA, between(LLAMA, BYTES).draft.middle("do the")) == ["do", " the"]
    assert pieces(LLAMA, between(LLAMA, BYTES).draft.middle(" the")) == [" the"]
    assert pieces(MODERN, between(MODERN, BYTES).draft.middle("do the")) == ["do", " the"]


def test_a_text_is_not_shown_while_it_ends_within_a_character():
    transcript = Transcript(between(LLAMA, BYTES))
    text = ids(BYTES, "a", b"\xc3", b"\xa9", "b")
    assert transcript.follow(text[:2]) == []
    assert pieces(LLAMA, transcript.follow(text[:3])) == ["<s>", " ", "a", "é"]
    assert pieces(LLAMA, transcript.follow(text)) == ["<s>", " ", "a", "é", "b"]


def test_bytes_that_are_no_text_are_shown_as_unknown():
    assert context(LLAMA, BYTES, b"\xc3", "a") == ["<s>", " ", "<unk>", "a"]


def test_a_special_token_parts_the_text():
    assert context(BYTES, LLAMA, "<s>", " undo", "</s>", "do") == ["undo", "</s>", "do"]


def test_a_special_token_that_the_draft_model_lacks_is_left_out():
    assert context(BYTES, BERT, "[CLS]", " a", "[SEP]", " b") == ["a", " ", "b"]


def test_a_text_begins_with_the_draft_models_own_opening_once():
    other = sentencepiece(["▁", "a", "▁a"], bos="<s>")
    assert context(LLAMA, other, "<s>", " a") == ["<s>", " ", "a"]
    assert context(LLAMA, other, " a") == ["<s>", " ", "a"]
    assert context(LLAMA, other, "<s>") == ["<s>"]


def test_a_tokenizer_that_folds_case_is_shown_lower_case():
    upper = byte_level(["T", "h", "e", "Ġ", "ĠT"])
    assert context(FOLDED, upper, "T", "h", "e", " T", "h", "e") == [" the", " the"]


# What is proposed.


def test_a_word_that_goes_on_gets_no_space():
    assert proposed(LLAMA, BYTES, ["a", " the"], "do") == ["do"]
    assert proposed(BYTES, LLAMA, [" un"], "do the") == ["do", " the"]
    assert proposed(BYTES, MODERN, [" un"], "do the") == ["do", " the"]
    assert proposed(BYTES, BERT, [" un"], "do the") == ["do", " the"]


def test_a_new_word_gets_one_space():
    for target in (BYTES, LLAMA, MODERN, BERT):
        assert proposed(LLAMA, target, [" ", "a"] if target is not BERT else [" a"], " the") == [" the"]


def test_tokens_that_stand_stay_although_the_next_would_merge_with_them():
    assert BYTES.encode("undo") == ids(BYTES, "undo")
    assert proposed(LLAMA, BYTES, ["un"], "do") == ["do"]
    assert proposed(LLAMA, BYTES, ["un"], "do the") == ["do", " the"]


def test_a_draft_ends_before_half_a_character():
    assert whole_characters("aé".encode()[:-1]) == "a"
    assert whole_characters("aé".encode()) == "aé"
    assert whole_characters(b"a\xff") == "a"
    assert whole_characters(b"") == ""


def test_a_proposal_ends_where_the_tokenizer_does_not_spell_the_text():
    assert proposed(BYTES, FOLDED, [" ", "a"], "bXe") == ["b"]
    assert proposed(BYTES, LLAMA, [" ", "a"], "bZe") == ["b"]
    assert proposed(BYTES, BERT, [" a"], "Z") == []


def test_the_name_of_a_special_token_is_no_special_token():
    assert proposed(LLAMA, BYTES, ["a"], "b</s>") == ["b"]


# Texts in pieces.


@pytest.mark.parametrize("draft", ALL)
@pytest.mark.parametrize("target", ALL)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 60))
def test_what_is_shown_does_not_depend_on_the_calls(draft, target, seed, length):
    draw = random.Random(seed)
    found = between(ALL[draft], ALL[target])
    tokens = draw.choices(range(len(ALL[target].vocabulary)), k=length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transcript_module, "SEGMENT", 6)
        patch.setattr(transcript_module, "LONGEST_SEGMENT", 10)
        at_once = Transcript(found).follow(tokens)
        in_pieces = Transcript(found)
        for end in sorted(draw.choices(range(length), k=5)):
            in_pieces.follow(tokens[:end])
        assert in_pieces.follow(tokens) == at_once


def test_a_text_in_segments_is_encoded_as_if_it_were_whole():
    text = "the undo the do " * 40
    tokens = BYTES.encode(text)
    assert Transcript(between(LLAMA, BYTES)).follow(tokens) == LLAMA.encode(text)
    assert Transcript(between(BYTES, BYTES)).follow(tokens) == tokens


def test_what_is_finished_is_not_encoded_again(monkeypatch):
    text = "the undo the do " * 40
    transcript = Transcript(between(LLAMA, BYTES))
    transcript.follow(BYTES.encode(text))
    longer = BYTES.encode(text + "the")
    encoded = []
    encode = LLAMA.encode
    monkeypatch.setattr(type(LLAMA), "encode", lambda self, text: encoded.append(text) or encode(text))
    transcript.follow(longer)
    assert 0 < sum(map(len, encoded)) < 2 * transcript_module.SEGMENT


def test_segments_end_before_a_word():
    words = "the " * 50
    assert words[segment_end(words) :].startswith(" the")
    assert segment_end("the " * 10) is None
    assert segment_end("a" * 64 + " ") is None  # what follows the space is not known yet
    assert segment_end("a" * 64 + "  b") is None
    assert segment_end("a" * transcript_module.LONGEST_SEGMENT) is None
    assert segment_end("a" * 1000) == transcript_module.LONGEST_SEGMENT


# Drafters.

SAME_LETTERS = byte_level(list("dcba"))
LETTERS_ALONE = byte_level(list("abcd"))
TWO_LETTERS = byte_level(["a", "b"], end=None)
# "aba" is "ab", "a"; and one letter later it is "abab".
SYLLABLES = byte_level(["a", "b", "aa", "ab", "bb", "abab", "abaa", "bbab"], end=None)


def mirrored(target):
    """The same model over the same four letters in the opposite order; </s> is last in both."""
    order = [3, 2, 1, 0, 4]
    return TableModel(target.table[order][:, order], tokenizer=SAME_LETTERS, name="mirrored")


def letters(seed=3):
    return TableModel(TableModel.random(5, 1, spread=1.5, seed=seed).table, tokenizer=LETTERS_ALONE)


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
@pytest.mark.parametrize("lookahead", [1, 4])
def test_the_target_in_other_ids_is_always_accepted(rule, lookahead):
    target = letters()
    decoder = SpeculativeDecoder(IntersectionDrafter(mirrored(target), target), target, lookahead, rule=rule)
    for seed in range(20):
        generation = decoder.generate([0, 1], max_tokens=30, sampling=SamplingParams(seed=seed))
        assert generation.stats.accepted == generation.stats.drafted > 0


class Compared(Drafter):
    """Drafts, and holds each draft against that of a drafter that sees the text for the first time."""

    def __init__(self, make):
        self.make = make
        self.drafter = make()

    def prepare(self, rows, capacity, vocab_size):
        self.settings = (rows, capacity, vocab_size)
        self.drafter.prepare(*self.settings)

    def propose(self, sequences, budgets):
        drafts = self.drafter.propose(sequences, budgets)
        fresh = self.make()
        fresh.prepare(*self.settings)
        for draft, expected in zip(drafts, fresh.propose(sequences, budgets), strict=True):
            assert draft.tokens == expected.tokens
            assert draft.q is None or np.array_equal(draft.q, expected.q)
        return drafts

    def forget(self, sequence):
        self.drafter.forget(sequence)


def decode_compared(kind, draft_tokenizer, target_tokenizer, prompt):
    """With a draft model that sees every token of the text."""

    def logits(tokens):
        return np.random.default_rng(tokens.ravel()).normal(0, 1, (1, len(draft_tokenizer.vocabulary)))

    draft = FunctionModel(logits, tokenizer=draft_tokenizer)
    target = model(target_tokenizer, 1)
    decoder = SpeculativeDecoder(Compared(lambda: kind(draft, target)), target, 2)
    for seed in range(6):
        sampling = SamplingParams(seed=seed)
        generation = decoder.generate(target_tokenizer.encode(prompt), max_tokens=30, sampling=sampling)
        assert generation.stats.drafted > 0


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("draft", ["llama", "bert"])
@pytest.mark.parametrize("kind", [IntersectionDrafter, StringDrafter])
def test_the_draft_cache_holds_the_text_as_it_is_encoded_now(kind, draft):
    decode_compared(kind, ALL[draft], BYTES, "the un")
    decode_compared(kind, SYLLABLES, TWO_LETTERS, "ab")


def nothing_taken_back():
    agreeing = DraftCache._agreeing

    def without_a_look(self, sequence, text, most):
        self._row_of(sequence).text = text
        return agreeing(self, sequence, text, most)

    return patch.object(DraftCache, "_agreeing", without_a_look)


def the_newest_fed_only():
    follow = DraftCache.follow

    def fed_the_newest(self, sequence, text):
        row = follow(self, sequence, text)
        row.feed = list(text[-1:])
        return row

    return patch.object(DraftCache, "follow", fed_the_newest)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("mistake", [nothing_taken_back, the_newest_fed_only])
def test_a_draft_cache_that_holds_something_else_is_found(mistake):
    with mistake(), pytest.raises(RuntimeWarning, match="failed and is dropped"):
        decode_compared(IntersectionDrafter, SYLLABLES, TWO_LETTERS, "ab")


def test_the_greedy_text_of_the_same_model_is_always_accepted_as_a_string():
    target = letters()
    greedy = SamplingParams(temperature=0)
    decoder = SpeculativeDecoder(StringDrafter(mirrored(target), target), target, 4)
    generation = decoder.generate([0, 1], max_tokens=30, sampling=greedy)
    assert generation.tokens == SpeculativeDecoder(None, target).generate([0, 1], max_tokens=30, sampling=greedy).tokens
    assert generation.stats.accepted == generation.stats.drafted > 0


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("drafter", [IntersectionDrafter, StringDrafter])
@pytest.mark.parametrize("draft", ALL)
@pytest.mark.parametrize("target", ALL)
def test_coupled_text_depends_on_no_drafter(drafter, draft, target):
    """And nothing that these tokenizers do to a text ends in an error: that would drop the drafter with a warning."""
    large, small = model(ALL[target], 1), model(ALL[draft], 2)
    prompt = ALL[target].encode("the undo")
    for seed in range(4):
        sampling = SamplingParams(seed=seed, temperature=1.2, repetition_penalty=1.1)
        plain = SpeculativeDecoder(None, large, rule="coupled").generate(prompt, max_tokens=20, sampling=sampling)
        decoder = SpeculativeDecoder(drafter(small, large), large, 3, rule="coupled")
        assert decoder.generate(prompt, max_tokens=20, sampling=sampling).tokens == plain.tokens


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("drafter", [IntersectionDrafter, StringDrafter])
@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
def test_a_text_does_not_depend_on_its_company(drafter, rule, monkeypatch):
    """Neither on how the reading of its prompt is cut into pieces."""
    from outrider.engine import feeds as feeds_module
    from outrider.engine import scheduler as scheduler_module

    monkeypatch.setattr(feeds_module, "READING_BESIDE_OTHERS", 3)
    monkeypatch.setattr(scheduler_module, "SMALLEST_SHARE", 2)
    target = model(BYTES, 1)
    prompts = [BYTES.encode(text) for text in ("the undo the do undo undo", "a", "do the undo", "a b the the")]

    def serve(rows):
        engine = Engine(target, drafter(model(LLAMA, 2), target), lookahead=3, rule=rule, max_rows=rows, capacity=64)
        sequences = [
            engine.submit(Request(tuple(prompt), 16, SamplingParams(seed=number)))
            for number, prompt in enumerate(prompts)
        ]
        while not engine.idle:
            engine.step()
        return [sequence.tokens for sequence in sequences]

    assert serve(4) == serve(1)


@pytest.mark.parametrize("drafter", [IntersectionDrafter, StringDrafter])
def test_a_draft_ends_when_the_model_loses_confidence(drafter):
    target, draft = model(TWO_LETTERS, 1), model(SYLLABLES, 2)

    def drafted(min_survival):
        decoder = SpeculativeDecoder(drafter(draft, target, min_survival=min_survival), target)
        return decoder.draft_generation([0], 8, sampling=SamplingParams(seed=0))

    assert 0 < len(drafted(0.2)) < len(drafted(0.0)) == 8


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_string_draft_ends_with_the_targets_end():
    (end,), (own_end,) = ids(BYTES, "</s>"), ids(LLAMA, "</s>")
    target = model(BYTES, stop=[end])
    table = TableModel.random(len(LLAMA.vocabulary), 1).table
    table[:, own_end] += 100
    draft = TableModel(table, tokenizer=LLAMA, stop_token_ids=frozenset({own_end}))
    decoder = SpeculativeDecoder(StringDrafter(draft, target), target)
    assert decoder.draft_generation(BYTES.encode("the"), 4) == [end]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("drafter", [IntersectionDrafter, StringDrafter])
def test_nothing_is_drafted_within_a_character(drafter):
    target = model(BYTES)
    decoder = SpeculativeDecoder(drafter(model(LLAMA), target), target)
    assert decoder.draft_generation(ids(BYTES, "a", b"\xc3"), 4) == []
    assert decoder.draft_generation(ids(BYTES, "a", b"\xc3", b"\xa9"), 4) != []


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("drafter", [IntersectionDrafter, StringDrafter])
def test_a_text_that_outgrows_the_draft_model_goes_on_plainly(drafter):
    target = model(BYTES, 1)
    short = TableModel(model(LLAMA, 2).table, tokenizer=LLAMA, context_length=12)
    decoder = SpeculativeDecoder(drafter(short, target), target, 3, rule="coupled")
    sampling = SamplingParams(seed=5)
    generation = decoder.generate([0], max_tokens=40, sampling=sampling)
    plain = SpeculativeDecoder(None, target, rule="coupled").generate([0], max_tokens=40, sampling=sampling)
    assert 0 < generation.stats.drafted < 40
    assert generation.tokens == plain.tokens


def test_the_engine_sets_room_aside_for_shorter_tokens():
    target = model(BYTES)
    draft = model(LLAMA)
    draft.traits = replace(draft.traits, bytes_per_token=100)
    assert IntersectionDrafter(draft, target).bytes_per_token == 2 * ModelDrafter(draft).bytes_per_token


# What is refused.


def test_a_draft_model_without_a_tokenizer_is_refused():
    bare = TableModel.random(4)
    with pytest.raises(VocabularyError, match="model random-table-0 has no tokenizer"):
        StringDrafter(bare, model(BYTES))
    with pytest.raises(VocabularyError, match="model random-table-0 has no tokenizer"):
        IntersectionDrafter(model(BYTES), bare)


def test_vocabularies_without_a_common_token_are_refused():
    one, other = byte_level(["a"], end=None), byte_level(["b"], end=None)
    with pytest.raises(VocabularyError, match="share no token: draft strings"):
        IntersectionDrafter(model(one), model(other))
    StringDrafter(model(one), model(other))


def test_a_drafter_for_another_target_is_dropped():
    drafter = IntersectionDrafter(model(LLAMA), model(BYTES))
    with pytest.warns(RuntimeWarning, match="make a drafter for this target"):
        Engine(model(BERT), drafter, lookahead=3, capacity=16)


def test_a_draft_model_of_another_tokenizer_is_refused_with_what_to_do():
    with pytest.raises(VocabularyError, match="IntersectionDrafter or StringDrafter"):
        SpeculativeDecoder(model(LLAMA), model(BYTES))
