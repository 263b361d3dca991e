"""Texts that a model wrote: each once, and those held out stay held out."""

import random

import numpy as np
import pytest

from outrider import InputError
from outrider.training.library import Library
from outrider.training.shards import Text, read_shard, read_shards, shards_of, write_shard


def text(prompt, answer=(7, 8)):
    held = np.zeros((len(answer), 2))
    return Text((*prompt, *answer), len(prompt), held, held)


def some(count, seed=0):
    chooser = random.Random(seed)
    return [text([chooser.randrange(1000) for _ in range(6)]) for _ in range(count)]


def prompts(texts):
    return {each.tokens[: each.prompt] for each in texts}


def test_a_text_that_is_held_out_stays_so_whatever_comes_later(tmp_path):
    texts = some(300)
    write_shard(tmp_path, texts[:100], "t")
    library = Library([tmp_path], "t")
    library.refresh()
    held_out = prompts(library.held_out)
    assert 0 < len(held_out) < 25
    write_shard(tmp_path, texts[100:], "t")
    library.refresh()
    again = Library([tmp_path], "t")
    for each in reversed(texts):
        again.add(each)
    for later in (library, again):
        assert len(later) == 300
        assert held_out.isdisjoint(prompts(later.learned))
    assert prompts(library.held_out) == prompts(again.held_out)


def test_no_prompt_comes_twice(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    write_shard(one, [text([1, 2]), text([1, 2], (9, 9)), text([3])], "t", seconds=4.0)
    write_shard(other, [text([3], (5,)), text([4])], "t")
    library = Library([one, other], "t")
    library.refresh()
    assert len(library) == 3
    assert library.knows([1, 2])
    assert not library.knows([12])
    assert not library.add(text([4]))
    assert [read_shard(path).seconds for path in shards_of(one)] == [4.0]
    assert len(list(read_shards(one))) == 3


def test_texts_of_another_tokenizer_are_refused(tmp_path):
    write_shard(tmp_path, some(2), "t")
    with pytest.raises(InputError, match="another tokenizer"):
        Library([tmp_path], "u").refresh()
