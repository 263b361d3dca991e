"""What the target's passes tell a drafter is what a fresh prefill of the same text tells."""

import random
from dataclasses import dataclass

import numpy as np
import pytest

import outrider
from outrider import (
    Draft,
    Drafter,
    DynamicTree,
    Engine,
    LookaheadPolicy,
    Merged,
    ModelDrafter,
    ModelTreeDrafter,
    Request,
    SamplingParams,
    SettingError,
    SpeculativeDecoder,
    SuffixDrafter,
    TableModel,
)
from outrider.drafters.base import READING_BESIDE_A_DRAFT, Reading
from outrider.engine.feeds import READING_ALONE
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import NOTHING, Features, Pass
from tiny import gguf as tiny_gguf
from tiny import model as tiny_model

WANTS = Features(hidden=(0, 1, 2), top=3)
GREEDY = SamplingParams(temperature=0, seed=0)


@dataclass
class Read:
    """A reading, and the text that it belongs to as it was then."""

    sequence: int
    text: list[int]
    reading: Reading


class Reader(Drafter):
    """Drafts as another drafter does, mostly spoils the draft, and writes down what it reads."""

    def __init__(self, drafter: Drafter, wants: Features = WANTS) -> None:
        self.drafter = drafter
        self.name = drafter.name
        self.trees = drafter.trees
        self.wants = wants
        self.reads: list[Read] = []
        self.asked: list[tuple[int, int]] = []  # sequence, tokens of its text
        self._random = random.Random(0)

    def prepare(self, rows, capacity, vocab_size):
        self._vocab_size = vocab_size
        self.drafter.prepare(rows, capacity, vocab_size)

    def propose(self, sequences, budgets):
        self.asked += [(sequence.id, len(sequence.tokens)) for sequence in sequences]
        return [self._spoiled(draft) for draft in self.drafter.propose(sequences, budgets)]

    def _spoiled(self, draft: Draft) -> Draft:
        """With a wrong token somewhere in most chains; of a tree most branches are wrong anyway."""
        tokens = list(draft.tokens)
        if draft.is_chain and len(tokens) and self._random.random() < 0.6:
            place = self._random.randrange(len(tokens))
            tokens[place] = (tokens[place] + 1) % self._vocab_size
        return Draft(tuple(tokens), draft.parents, source=self.name)

    def read(self, sequences, readings):
        for sequence, reading in zip(sequences, readings, strict=True):
            copied = Reading(
                reading.start,
                tuple(reading.tokens),
                reading.draft,
                tuple(np.array(to_numpy(layer)) for layer in reading.hidden),
                None
                if reading.top is None
                else type(reading.top)(
                    np.array(to_numpy(reading.top.tokens)), np.array(to_numpy(reading.top.probabilities))
                ),
            )
            self.reads.append(Read(sequence.id, list(sequence.tokens), copied))

    def forget(self, sequence):
        self.drafter.forget(sequence)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return outrider.load(tiny_model.save(tmp_path_factory.mktemp("tiny"), context=1024))


def prompt(length: int, seed: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).choices(range(3, len(tiny_model.WORDS)), k=length))


LENGTHS = (9, 30, 2, 200, 77)


def serve(target, drafter: Drafter, lookahead: int, lengths=LENGTHS) -> list:
    """Prompts of several lengths in three rows, one after the other and beside each other."""
    engine = Engine(target, drafter, lookahead=lookahead, max_rows=3, capacity=256)
    sequences = [
        engine.submit(Request(prompt(length, seed), 12, GREEDY, frozenset())) for seed, length in enumerate(lengths)
    ]
    while not engine.idle:
        engine.step()
    return sequences


def compare_with_a_fresh_prefill(target, read: Read) -> None:
    reading = read.reading
    drafted = 0 if reading.draft is None else len(reading.draft)
    prefix = len(reading.tokens) - drafted
    assert list(reading.tokens[:prefix]) == read.text[reading.start : reading.start + prefix]
    paths = [range(node + 1) for node in range(prefix)]
    if reading.draft is not None:
        assert tuple(reading.tokens[prefix:]) == reading.draft.tokens
        paths += [[*range(prefix), *(prefix + above for above in reading.draft.path(n))] for n in range(drafted)]
    assert [layer.shape for layer in reading.hidden] == [(len(reading.tokens), 32)] * 3
    scored = 0 if reading.draft is None else 1 + drafted
    assert (reading.top is None) == (scored == 0)
    assert reading.top is None or reading.top.tokens.shape == (scored, 3)
    for node in {0, prefix - 1, *range(prefix, len(paths))}:
        text = [*read.text[: reading.start], *(reading.tokens[above] for above in paths[node])]
        fresh = target.open(1, len(text)).extend(Pass([0], [text], wanted=[1], features=WANTS))
        for layer, expected in zip(reading.hidden, fresh.hidden, strict=True):
            np.testing.assert_allclose(layer[node], to_numpy(expected)[-1], atol=1e-4)
        if node >= len(paths) - scored:
            found = reading.top.probabilities[node - len(paths)]
            np.testing.assert_allclose(found, to_numpy(fresh.top.probabilities)[0], atol=1e-4)
            assert reading.top.tokens[node - len(paths)].tolist() == to_numpy(fresh.top.tokens)[0].tolist()


@pytest.mark.parametrize("shape", ["chain", "tree"])
def test_hidden_states_and_the_most_probable_tokens_are_those_of_a_fresh_prefill(target, shape: str) -> None:
    inner = ModelDrafter(target) if shape == "chain" else ModelTreeDrafter(target, DynamicTree(3, 3))
    reader = Reader(inner)
    sequences = serve(target, reader, 4)
    assert sum(sequence.stats.drafted for sequence in sequences) > 40
    assert 0 < sum(s.stats.accepted for s in sequences) < sum(s.stats.drafted for s in sequences)
    assert any(read.reading.draft is None for read in reader.reads)
    for read in reader.reads:
        compare_with_a_fresh_prefill(target, read)


def test_every_token_is_read_once_it_is_fed(target) -> None:
    reader = Reader(ModelDrafter(target))
    for seed, sequence in enumerate(serve(target, reader, 3)):
        text = [*prompt(LENGTHS[seed], seed), *sequence.tokens]
        known: list[int] = []
        for read in (read for read in reader.reads if read.sequence == sequence.id):
            assert read.reading.start <= len(known)
            known[read.reading.start :] = read.reading.tokens
        assert known[: len(text) - 1] == text[:-1]


def test_a_drafter_that_wants_something_drafts_once_the_target_has_read_the_prompt(target) -> None:
    lengths = (9, 30, 2, 200)
    reader = Reader(ModelDrafter(target))
    serve(target, reader, 3, lengths)
    assert all(tokens > lengths[sequence] for sequence, tokens in reader.asked if lengths[sequence] > 1)
    reader = Reader(ModelDrafter(target), NOTHING)
    serve(target, reader, 3, lengths)
    first = dict(reversed(reader.asked))
    assert [first[number] for number in range(4)] == [9, 30, 2, 201]  # a long last piece is read without a draft


def test_where_nothing_is_wanted_a_reading_carries_no_arrays(target) -> None:
    reader = Reader(ModelDrafter(target), NOTHING)
    serve(target, reader, 3)
    assert all(read.reading.hidden == () and read.reading.top is None for read in reader.reads)


class EveryOther(LookaheadPolicy):
    """Drafts in every other round."""

    def __init__(self) -> None:
        self.rounds = 0

    def plan(self, sequences):
        self.rounds += 1
        return [2 * (self.rounds % 2)] * len(sequences)


def test_top_tokens_are_found_in_rounds_that_may_draft(target) -> None:
    reader = Reader(SuffixDrafter())
    decoder = SpeculativeDecoder(reader, target, lookahead=EveryOther())
    text = decoder.generate(prompt(9, 0), max_tokens=12, sampling=GREEDY, stop_token_ids=()).tokens
    found = [read.reading.top is not None for read in reader.reads[1:]]  # the first one read the prompt
    assert found == [number % 2 == 0 for number in range(len(found))]
    assert len(found) > 5
    assert all(len(read.reading.hidden) == 3 for read in reader.reads)
    assert (
        text
        == SpeculativeDecoder(None, target)
        .generate(prompt(9, 0), max_tokens=12, sampling=GREEDY, stop_token_ids=())
        .tokens
    )


def test_one_of_several_drafters_is_told_what_it_wants(target) -> None:
    deep, wide = Reader(SuffixDrafter(), Features(hidden=(2, 0))), Reader(ModelDrafter(target), Features((1,), top=2))
    both = Merged([deep, wide], rests=False)
    assert both.wants == Features((0, 1, 2), top=2)
    serve(target, both, 4)
    for one, other in zip(deep.reads, wide.reads, strict=True):
        assert one.reading.tokens == other.reading.tokens
        text = one.text[: one.reading.start] + list(one.reading.tokens[:1])
        fresh = target.open(1, len(text)).extend(Pass([0], [text], wanted=[1], features=WANTS)).hidden
        np.testing.assert_allclose(one.reading.hidden[0][0], to_numpy(fresh[2])[-1], atol=1e-4)
        np.testing.assert_allclose(one.reading.hidden[1][0], to_numpy(fresh[0])[-1], atol=1e-4)
        np.testing.assert_allclose(other.reading.hidden[0][0], to_numpy(fresh[1])[-1], atol=1e-4)
        assert one.reading.top is None
        assert other.reading.top is None or other.reading.top.tokens.shape[1] == 2


def test_a_prompt_read_without_a_draft_is_told_apart() -> None:
    long = (1,) * (READING_BESIDE_A_DRAFT + 2)
    assert Reading(0, long, None).prefilled == len(long)
    assert Reading(0, long, Draft()).prefilled == len(long) - 1
    assert Reading(0, long[1:], Draft()).prefilled == 0
    assert Reading(0, long, Draft((1, 1))).prefilled == 0
    assert Reading(0, (1,), None).prefilled == 1


def test_a_draft_model_reads_a_long_prompt_along() -> None:
    target = TableModel.random(6, 1, seed=3)
    fed: list[list[int]] = []

    class Watched(TableModel):
        def open(self, rows, capacity):
            session = super().open(rows, capacity)
            extend = session.extend
            session.extend = lambda work: fed.append([len(new) for new in work.tokens]) or extend(work)
            return session

    length = READING_ALONE + READING_BESIDE_A_DRAFT + 40
    engine = Engine(target, ModelDrafter(Watched(target.table)), lookahead=2, max_rows=1, capacity=1024)
    engine.submit(Request((1,) * length, 4, GREEDY))
    engine.step()
    assert fed == [[READING_ALONE]]
    engine.step()
    assert fed == [[READING_ALONE], [length - READING_ALONE - 1]]
    engine.step()
    assert fed[2] == [2]  # what was pending, and the newest


# What is refused


def test_hidden_states_that_a_runtime_does_not_give_are_refused(tmp_path) -> None:
    message = "drafter suffix cannot draft for model .*: its runtime gives no hidden states"
    with pytest.raises(SettingError, match=message) as refused:
        Engine(TableModel.random(6, 1), Reader(SuffixDrafter()))
    assert "\n" not in str(refused.value)
    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    file = tiny_gguf.save(tmp_path / "tiny.gguf")
    with pytest.raises(SettingError, match=message):
        SpeculativeDecoder(Reader(SuffixDrafter()), outrider.load(file, backend="llama", threads=1)).generate([1, 2])


def test_layers_that_a_model_does_not_have_are_refused(target) -> None:
    with pytest.raises(SettingError, match="layer 3 is asked for and it has layers 0 to 2"):
        Engine(target, Reader(SuffixDrafter(), Features(hidden=(3,))))


def test_a_drafter_that_fails_to_read_is_dropped(target) -> None:
    class Broken(Reader):
        def read(self, sequences, readings):
            raise RuntimeError("out of cheese")

    with pytest.warns(RuntimeWarning, match="drafter model failed and is dropped; decoding goes on plainly"):
        sequences = serve(target, Broken(ModelDrafter(target)), 3)
    plain = serve(target, None, 3)
    assert [one.tokens for one in sequences] == [other.tokens for other in plain]
