"""Files of drafter state: what is written is read, damage is told in one line, a killed writer leaves the old file."""

import io
import json
import multiprocessing
import os
import pickle
import random
import zipfile

import numpy as np
import pytest

from outrider import InputError, LookupDrafter, RecyclingDrafter, RecyclingMemory, SuffixSource, TableModel
from outrider.drafters.lookup.loading import known_state, lookup_drafter
from outrider.drafters.recycling import state as state_module
from outrider.drafters.recycling.state import (
    MOST_SAVED,
    DrafterState,
    load_state,
    save_state,
    state_of,
    tokenizer_of,
)

TOKENIZER, SIZE = "f" * 32, 50


def memory(contexts: int = 30, seed: int = 0) -> RecyclingMemory:
    generator = np.random.default_rng(seed)
    found = RecyclingMemory(vocab_size=SIZE, tokenizer=TOKENIZER)
    for _ in range(contexts):
        before, last = generator.integers(0, SIZE, 2).tolist()
        tokens = generator.permutation(SIZE)[:8].tolist()
        found.learn([(before, last)], [tokens], [sorted(generator.dirichlet([1] * 8).tolist(), reverse=True)])
    return found


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "state.npz"
    save_state(state_of(memory(), [[1, 2, 3], [], [4]]), path)
    return path


def refused(path) -> str:
    """What is said about a file that cannot be used."""
    with pytest.raises(InputError) as caught:
        load_state(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < 700
    return message


def written(path, **changes) -> None:
    """The arrays of a state, some of them other ones, None left out."""
    with np.load(path) as opened:
        arrays = {name: opened[name] for name in opened.files}
    for name, values in changes.items():
        key = name.replace("__", ".")
        arrays.pop(key, None)
        if values is not None:
            arrays[key] = np.asarray(values)
    np.savez_compressed(path, **arrays)


def header(**changes) -> np.ndarray:
    named = {"format": state_module.FORMAT, "version": 1, "tokenizer": TOKENIZER, "vocab_size": SIZE} | changes
    return np.frombuffer(json.dumps(named).encode(), dtype=np.uint8)


def test_what_is_written_is_read(tmp_path) -> None:
    known = state_of(memory(), [[1, 2, 3], [], [4]])
    save_state(known, tmp_path / "state.npz")
    found = load_state(tmp_path / "state.npz")
    assert (found.tokenizer, found.vocab_size, found.documents) == (TOKENIZER, SIZE, [[1, 2, 3], [], [4]])
    assert found.single.everything() == known.single.everything()
    assert found.pairs.everything() == known.pairs.everything()
    assert tokenizer_of(tmp_path / "state.npz") == TOKENIZER
    assert list(tmp_path.iterdir()) == [tmp_path / "state.npz"]


def test_a_state_that_is_read_and_written_again_stays_the_same(file) -> None:
    first = load_state(file)
    for _ in range(3):
        save_state(state_of(load_state(file).memory(), first.documents), file)
    assert load_state(file).pairs.everything() == first.pairs.everything()


def test_what_is_saved_is_bounded(tmp_path, monkeypatch) -> None:
    drafter = RecyclingDrafter(memory(contexts=60))
    assert len(drafter.sources[0].memory.pairs) > 20
    monkeypatch.setattr(state_of, "__defaults__", ((), 20))
    drafter.save(tmp_path / "state.npz")
    assert len(load_state(tmp_path / "state.npz").pairs) == 20
    assert MOST_SAVED * 50 < state_module.LARGEST_FILE / 4


def test_a_state_of_documents_alone_or_of_nothing_is_read(tmp_path) -> None:
    empty = state_of(RecyclingMemory(vocab_size=SIZE))
    save_state(DrafterState("", SIZE, empty.single, empty.pairs, [[0] * 1000]), tmp_path / "state.npz")
    found = load_state(tmp_path / "state.npz")
    assert (len(found.single), len(found.pairs), len(found.documents[0])) == (0, 0, 1000)


# Damage


def test_a_file_cut_anywhere_is_refused(file) -> None:
    whole = file.read_bytes()
    for length in range(0, len(whole), 100):
        file.write_bytes(whole[:length])
        assert "damaged" in refused(file)
        assert tokenizer_of(file) is None


def test_flipped_bytes_are_refused_or_harmless(file) -> None:
    whole = bytearray(file.read_bytes())
    generator = random.Random(0)
    refusals = []
    for _ in range(150):
        spoiled = whole.copy()
        spoiled[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        file.write_bytes(spoiled)
        try:
            found = load_state(file)
        except InputError as error:
            refusals.append(str(error))
        else:  # a date or a flag of the zip
            assert len(found.pairs) == len(state_of(memory()).pairs)
    assert len(refusals) > 75
    assert not any("\n" in message for message in refusals)


SPOILED = {
    "no header": {"header": None},
    "no keys": {"pairs__keys": None},
    "no documents": {"documents": None},
    "another format": {"header": header(format="other")},
    "another version": {"header": header(version=2)},
    "a list for a header": {"header": np.frombuffer(b"[1]", dtype=np.uint8)},
    "a header that is no JSON": {"header": np.frombuffer(b"{", dtype=np.uint8)},
    "a deep header": {"header": np.frombuffer(b"[" * 100_000, dtype=np.uint8)},
    "no tokenizer": {"header": header(tokenizer=None)},
    "a vocabulary of a text": {"header": header(vocab_size="50")},
    "a negative vocabulary": {"header": header(vocab_size=-1)},
    "a vocabulary of true": {"header": header(vocab_size=True)},
    "a smaller vocabulary": {"header": header(vocab_size=3)},
    "keys of floats": {"single__keys": np.zeros(3)},
    "signed keys": {"single__keys": np.arange(3)},
    "keys out of order": {"single__keys": np.array([3, 2], dtype=np.uint64)},
    "keys twice": {"single__keys": np.zeros(5, dtype=np.uint64)},
    "too few counts": {"pairs__counts": np.zeros(1, dtype=np.uint8)},
    "too many sizes": {"pairs__sizes": np.full(1000, 8, dtype=np.uint8)},
    "sizes that say more": {"single__sizes": np.full(500, 255, dtype=np.uint8)},
    "tokens in a table": {"single__tokens": np.zeros((4, 2), dtype=np.uint16)},
    "a token as a number": {"single__tokens": np.uint16(3)},
    "negative tokens": {"single__tokens": np.full(4, -1)},
    "huge tokens": {"single__tokens": np.full(4, 1 << 31, dtype=np.uint32)},
    "shares of floats": {"single__shares": np.full(4, np.nan)},
    "objects": {"single__shares": np.array([{}], dtype=object)},
    "texts": {"single__shares": np.array(["a", "b"])},
    "fields": {"single__shares": np.zeros(3, dtype=[("a", np.uint8)])},
    "longer documents": {"lengths": np.array([5, 1 << 31], dtype=np.uint32)},
    "documents in a table": {"documents": np.zeros((4, 1), dtype=np.uint32)},
    "signed documents": {"documents": np.array([1, 2, -3, 4])},
    "strange tokens in documents": {"documents": np.array([1, 2, 3, 99], dtype=np.uint32)},
}


@pytest.mark.parametrize("changes", SPOILED.values(), ids=SPOILED)
@pytest.mark.filterwarnings("error")
def test_a_file_that_says_something_else_is_refused(file, changes) -> None:
    written(file, **changes)
    refused(file)


def of_one_entry(path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(name, content)


class Bomb:
    def __reduce__(self):
        return os.abort, ()


def test_pickles_are_not_opened(file) -> None:
    file.write_bytes(pickle.dumps(Bomb()))
    refused(file)
    of_one_entry(file, "header.npy", pickle.dumps(Bomb()))
    refused(file)
    stream = io.BytesIO()
    np.save(stream, np.array([Bomb()], dtype=object), allow_pickle=True)
    of_one_entry(file, "header.npy", stream.getvalue())
    refused(file)
    file.write_bytes(stream.getvalue())
    refused(file)


def test_foreign_zips_are_refused(file) -> None:
    of_one_entry(file, "readme.txt", b"hello")
    assert "no drafter state" in refused(file)
    with zipfile.ZipFile(file, "w"):
        pass
    assert "no drafter state" in refused(file)


def test_zip_bombs_are_refused_unopened(file, monkeypatch) -> None:
    of_one_entry(file, "header.npy", b"\0" * 5_000_000)
    monkeypatch.setattr(state_module, "LARGEST_FILE", 1_000_000)
    monkeypatch.setattr(np, "load", lambda *args, **kwargs: pytest.fail("it was opened"))
    assert file.stat().st_size < 10_000
    assert "unpacks to 5000000 bytes" in refused(file)
    assert tokenizer_of(file) is None


def test_an_array_that_claims_to_be_huge_is_refused(file) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)})
    of_one_entry(file, "header.npy", stream.getvalue() + b"{}")
    refused(file)


@pytest.mark.parametrize("content", [b"", b"PK", b"hello", b"\x93NUMPY", b"\0" * 10_000])
def test_files_of_another_kind_are_refused(file, content) -> None:
    file.write_bytes(content)
    assert "damaged or none" in refused(file)


def test_what_is_no_file_is_not_to_be_deleted(tmp_path) -> None:
    assert "check the path" in refused(tmp_path)
    assert "does not exist" in refused(tmp_path / "none.npz")


def test_the_state_of_another_tokenizer_is_refused(file) -> None:
    target = TableModel.random(SIZE, 1)
    with pytest.raises(InputError, match=r"state\.npz is the drafter state of another tokenizer \(50 tokens"):
        known_state(target, file)
    with pytest.raises(InputError, match="the target has 7"):
        lookup_drafter(TableModel.random(7, 1), file)


# Writing


def test_a_file_that_is_not_there_yet_starts_from_nothing_and_is_written(tmp_path) -> None:
    target = TableModel.random(SIZE, 1)
    drafter = lookup_drafter(target, tmp_path / "new.npz")
    drafter.save(tmp_path / "new.npz")
    assert load_state(tmp_path / "new.npz").vocab_size == SIZE


def test_a_drafter_that_learns_nothing_has_nothing_to_save(tmp_path) -> None:
    with pytest.raises(InputError, match="no source that learns"):
        LookupDrafter([SuffixSource()]).save(tmp_path / "state.npz")
    with pytest.raises(InputError, match="is empty: decode something"):
        RecyclingDrafter().save(tmp_path / "state.npz")


@pytest.mark.parametrize("failing", ["os.replace", "os.fsync", "numpy.savez_compressed"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_old_file(file, monkeypatch, failing, error) -> None:
    before = file.read_bytes()

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(failing, fail)
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        save_state(state_of(memory(seed=1)), file)
    monkeypatch.undo()
    if isinstance(error, OSError):
        assert "cannot be written (No space left on device)" in str(caught.value)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("place", ["none/state.npz", "state.npz/state.npz", "x" * 300])
def test_a_place_that_cannot_be_written_is_told(tmp_path, place) -> None:
    (tmp_path / "state.npz").touch()
    with pytest.raises(InputError, match=r"cannot be written \(.+\): choose another place"):
        save_state(state_of(memory()), tmp_path / place)


def test_permissions_are_the_users(tmp_path) -> None:
    umask = os.umask(0o027)
    try:
        save_state(state_of(memory()), tmp_path / "new.npz")
        assert (tmp_path / "new.npz").stat().st_mode & 0o777 == 0o640
        (tmp_path / "new.npz").chmod(0o600)
        save_state(state_of(memory()), tmp_path / "new.npz")
        assert (tmp_path / "new.npz").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(umask)


def test_a_link_stays_a_link(file) -> None:
    link = file.with_name("link.npz")
    link.symlink_to(file)
    save_state(state_of(memory(seed=1)), link)
    assert link.is_symlink()
    assert load_state(file).pairs.everything() == state_of(memory(seed=1)).pairs.everything()


def _save_often(path, seed: int) -> None:
    known = state_of(memory(seed=seed))
    for _ in range(10):
        save_state(known, path)


def test_two_processes_that_save_at_once_leave_one_whole_file(tmp_path) -> None:
    path = tmp_path / "state.npz"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_save_often, args=(path, seed)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    expected = [state_of(memory(seed=seed)).pairs.everything() for seed in (1, 2)]
    assert load_state(path).pairs.everything() in expected
    assert list(tmp_path.iterdir()) == [path]
