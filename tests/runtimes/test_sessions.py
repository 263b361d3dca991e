"""What every Session must do, whatever the runtime. A new runtime adds a line to MODELS of tests/tiny/runtimes.py.

A runtime outside of this repository is named: `pytest tests/runtimes/test_sessions.py --runtime MODULE:FUNCTION`, a
function that makes a Model, or a Subject. The truth is a fresh session that is fed a root path from the start, in one
call.
"""

import random

import numpy as np
import pytest

from outrider import InputError
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Features, Model, Pass
from tiny import gguf as tiny_gguf
from tiny import mlx as tiny_mlx
from tiny import runtimes
from tiny.sessions import CAPACITY, fresh, same, text


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames and "model" in metafunc.fixturenames:
        place = metafunc.config.getoption("runtime")
        if place is not None:
            runtimes.MODELS[place] = runtimes.subject_at(place)
        names = runtimes.MODELS if place is None else [place]
        compared = "truth" in metafunc.fixturenames
        metafunc.parametrize("name", [name for name in names if not compared or runtimes.MODELS[name].truth])


@pytest.fixture
def model(name):
    return runtimes.made(name)


@pytest.fixture
def truth(name):
    return runtimes.MODELS[name].truth


def test_a_model_has_what_every_model_has(model):
    assert isinstance(model, Model)
    assert model.traits.vocab_size > 1
    assert model.traits.context_length > 1


def test_a_chain_fed_in_pieces_equals_one_fed_at_once(model):
    tokens = text(model, 20)
    session = model.open(1, CAPACITY)
    session.extend(Pass([0], [tokens[:11]], wanted=[0]))
    session.keep(0, range(11))
    found = session.extend(Pass([0], [tokens[11:]])).logits
    assert found.shape == (9, model.traits.vocab_size)
    same(found, fresh(model, tokens, 9))


def test_wanted_logits_are_those_of_the_last_tokens(model):
    first, second = text(model, 7, 1), text(model, 4, 2)
    session = model.open(2, CAPACITY)
    found = session.extend(Pass([0, 1], [first, second], wanted=[2, 3])).logits
    same(found, np.concatenate([fresh(model, first, 2), fresh(model, second, 3)]))


def test_rows_of_different_lengths_share_a_pass(model):
    texts = [text(model, length, length) for length in (13, 4, 9)]
    session = model.open(4, CAPACITY)
    for row, tokens in zip((3, 0, 1), texts, strict=True):
        session.extend(Pass([row], [tokens], wanted=[0]))
        session.keep(row, range(len(tokens)))
    new = [text(model, length, 50 + length) for length in (1, 3, 2)]
    found = session.extend(Pass([3, 0, 1], new)).logits
    same(found, np.concatenate([fresh(model, t + n, len(n)) for t, n in zip(texts, new, strict=True)]))


def test_a_dropped_tail_leaves_no_trace(model):
    tokens = text(model, 8)
    session = model.open(1, CAPACITY)
    session.extend(Pass([0], [tokens + text(model, 6, 9)]))
    session.keep(0, range(8))
    assert session.length(0) == 8
    more = text(model, 3, 5)
    same(session.extend(Pass([0], [more])).logits, fresh(model, tokens + more, 3))


def test_truncated_rows_go_on_from_there(model):
    tokens = text(model, 12)
    session = model.open(1, CAPACITY)
    session.extend(Pass([0], [tokens], wanted=[0]))
    session.keep(0, range(12))
    session.truncate(0, 5)
    more = text(model, 3, 5)
    same(session.extend(Pass([0], [more])).logits, fresh(model, tokens[:5] + more, 3))


def test_a_released_row_starts_empty(model):
    session = model.open(2, CAPACITY)
    session.extend(Pass([0, 1], [text(model, 9), text(model, 5)], wanted=[0, 0]))
    session.keep(0, range(9))
    session.release(0)
    assert session.length(0) == 0
    tokens = text(model, 4, 3)
    same(session.extend(Pass([0], [tokens])).logits, fresh(model, tokens, 4))


def test_an_adopted_prefix_goes_on_as_if_it_had_been_read(model):
    tokens = text(model, 40)
    session = model.open(3, CAPACITY)
    session.extend(Pass([0, 1], [tokens, text(model, 25, 9)], wanted=[0, 0]))
    session.keep(0, range(40))
    session.keep(1, range(25))
    session.extend(Pass([0, 1], [text(model, 5, 8), text(model, 4, 7)]))  # tentative tokens, which nobody adopts
    session.adopt(1, 0, 19)
    session.adopt(2, 0, 33)
    assert [session.length(row) for row in range(3)] == [40, 19, 33]
    session.keep(0, [0, 1])  # the source goes on
    more, others, last = text(model, 3, 5), text(model, 4, 6), text(model, 2, 4)
    found = session.extend(Pass([1, 2], [more, others])).logits
    same(found, np.concatenate([fresh(model, tokens[:19] + more, 3), fresh(model, tokens[:33] + others, 4)]))
    session.keep(1, [0, 1])
    session.release(2)
    found = session.extend(Pass([0, 1], [last, last])).logits
    held = tokens + text(model, 5, 8)[:2]
    same(found, np.concatenate([fresh(model, held + last, 2), fresh(model, tokens[:19] + more[:2] + last, 2)]))


def test_a_row_may_adopt_its_own_beginning(model):
    tokens = text(model, 20)
    session = model.open(2, CAPACITY)
    session.extend(Pass([1], [tokens], wanted=[0]))
    session.keep(1, range(20))
    session.extend(Pass([1], [text(model, 3, 7)], [[-1, -1, 0]]))
    session.adopt(1, 1, 12)
    assert session.length(1) == 12
    more = text(model, 3, 5)
    same(session.extend(Pass([1], [more])).logits, fresh(model, tokens[:12] + more, 3))


def test_what_a_row_does_not_hold_is_not_adopted(model):
    session = model.open(2, CAPACITY)
    session.extend(Pass([0], [text(model, 5)], wanted=[0]))
    session.keep(0, range(3))
    with pytest.raises(InputError, match="row 1 cannot adopt 4 tokens of row 0: that row holds 3"):
        session.adopt(1, 0, 4)
    assert session.length(1) == 0
    with pytest.raises(InputError, match="row 2 cannot adopt a prefix: this session has 2 rows"):
        session.adopt(2, 0, 3)


def test_each_node_of_a_tree_sees_its_own_root_path_only(model):
    stem = text(model, 7)
    #        0 -- 1 -- 3        -1 -- 4 -- 5
    #          \- 2 -- 6
    parents = [-1, 0, 0, 1, -1, 4, 2]
    tokens = text(model, len(parents), 4)
    session = model.open(2, CAPACITY)
    session.extend(Pass([1], [stem], wanted=[0]))
    session.keep(1, range(len(stem)))
    found = to_numpy(session.extend(Pass([1], [tokens], [parents])).logits)
    for node in range(len(parents)):
        path = []
        above = node
        while above != -1:
            path.insert(0, tokens[above])
            above = parents[above]
        same(found[node], fresh(model, stem + path)[0])


def test_keeping_a_branch_compacts_the_row_to_it(model):
    stem = text(model, 5)
    session = model.open(1, CAPACITY)
    session.extend(Pass([0], [stem], wanted=[0]))
    session.keep(0, range(5))
    tokens = text(model, 6, 8)
    session.extend(Pass([0], [tokens], [[-1, 0, 0, 1, 2, 4]]))
    session.keep(0, [0, 2, 4])
    more = text(model, 2, 6)
    same(session.extend(Pass([0], [more])).logits, fresh(model, [*stem, tokens[0], tokens[2], tokens[4], *more], 2))


def test_a_tree_may_grow_level_by_level(model):
    session = model.open(1, CAPACITY)
    stem = text(model, 4)
    session.extend(Pass([0], [stem], wanted=[0]))
    session.keep(0, range(4))
    a, b, c, d, e = text(model, 5, 7)
    session.extend(Pass([0], [[a, b]], [[-1, -1]]))
    found = session.extend(Pass([0], [[c, d, e]], [[0, 1, 1]])).logits
    same(found, np.concatenate([fresh(model, [*stem, *path]) for path in ([a, c], [b, d], [b, e])]))


def test_trees_and_chains_share_a_pass(model):
    session = model.open(2, CAPACITY)
    first, second = text(model, 6, 1), text(model, 3, 2)
    session.extend(Pass([0, 1], [first, second], wanted=[0, 0]))
    session.keep(0, range(6))
    session.keep(1, range(3))
    a, b, c, d = text(model, 4, 7)
    found = session.extend(Pass([0, 1], [[a, b], [c, d]], [[-1, -1], None])).logits
    paths = ([*first, a], [*first, b], [*second, c], [*second, c, d])
    same(found, np.concatenate([fresh(model, path) for path in paths]))


@pytest.mark.parametrize("seed", range(3))
def test_any_course_of_calls_equals_a_fresh_prefill(model, seed):
    choose = random.Random(seed)
    session = model.open(3, CAPACITY)
    held = [[], [], []]
    for _ in range(25):
        rows = choose.sample(range(3), choose.randint(1, 3))
        rows = [row for row in rows if len(held[row]) < CAPACITY - 8]
        if choose.random() < 0.5:
            rows.sort()  # as the engine gives them; rows side by side may be computed together
        if not rows:
            break
        tokens = [[choose.randrange(model.traits.vocab_size) for _ in range(choose.randint(1, 6))] for _ in rows]
        trees = [None if choose.random() < 0.5 else [choose.randint(-1, i - 1) for i in range(len(t))] for t in tokens]
        found = to_numpy(session.extend(Pass(rows, tokens, trees)).logits)
        first = 0
        for row, new, tree in zip(rows, tokens, trees, strict=True):
            parents = [i - 1 for i in range(len(new))] if tree is None else tree
            paths = []
            for node in range(len(new)):
                paths.append([*(paths[parents[node]] if parents[node] >= 0 else []), node])
            node = choose.randrange(len(new))
            same(found[first + node], fresh(model, held[row] + [new[i] for i in paths[node]])[0])
            first += len(new)
            kept = choose.choice([[], *paths])
            session.keep(row, kept)
            held[row] += [new[i] for i in kept]
            if choose.random() < 0.2:
                held[row] = held[row][: choose.randint(0, len(held[row]))]
                session.truncate(row, len(held[row]))
            assert session.length(row) == len(held[row])
        if choose.random() < 0.2:
            row, source = choose.randrange(3), choose.randrange(3)
            held[row] = held[source][: choose.randint(0, len(held[source]))]
            session.adopt(row, source, len(held[row]))


def test_a_rollout_drafts_the_most_probable_tokens(model):
    session = model.open(3, CAPACITY)
    texts = [text(model, length, length) for length in (7, 3)]
    session.extend(Pass([2, 0], [tokens[:-1] for tokens in texts], wanted=[0, 0]))
    session.keep(2, range(6))
    session.keep(0, range(2))
    most = model.traits.vocab_size // 2
    drafts = session.rollout([2, 0], [tokens[-1:] for tokens in texts], 4, most)
    assert [len(draft) for draft in drafts] == [4, 4]
    for tokens, draft in zip(texts, drafts, strict=True):
        logits = fresh(model, [*tokens, *draft[:-1]], 4)[:, :most]
        same(logits[range(4), draft], logits.max(-1))
    session.keep(2, range(3))  # the last tokens of the text, and two of the draft
    session.keep(0, [])
    held = [[*texts[0], *drafts[0][:2]], texts[1][:-1]]
    found = session.extend(Pass([2, 0], [[1], [1]])).logits
    same(found, np.concatenate([fresh(model, [*tokens, 1]) for tokens in held]))


def spoilt_by_token_0():
    torch = pytest.importorskip("torch")
    model = runtimes.tiny("Llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[0] = float("nan")
    return model


def spoilt_mlx(kind):
    pytest.importorskip("mlx_lm")
    from outrider.runtimes.mlx.model import MlxModel

    module = tiny_mlx.model(kind, tie_word_embeddings=False)
    inner = getattr(module, "model", None) or module.backbone
    (inner.embed_tokens if hasattr(inner, "embed_tokens") else inner.embeddings).weight[0] = float("nan")
    model = MlxModel(module)
    assert model.shares_passes == (kind == "llama")
    return model


@pytest.mark.parametrize("name", ["llama", "fused-llama", "graphed-llama", "mlx-llama", "mlx-mamba", "llamacpp-llama"])
def test_what_broke_one_text_is_gone_with_it(name, monkeypatch):
    if name.startswith("mlx"):
        model = spoilt_mlx(name.removeprefix("mlx-"))
    elif name.startswith("llamacpp"):
        tensors = tiny_gguf.weights("llama", runtimes.VOCABULARY)
        tensors["token_embd.weight"][0] = float("nan")
        monkeypatch.setattr(tiny_gguf, "weights", lambda *settings, **named: tensors)
        model = runtimes.MODELS[name].make()
    else:
        spoilt = spoilt_by_token_0()
        monkeypatch.setattr(runtimes, "tiny", lambda kind, **settings: spoilt)
        model = runtimes.MODELS[name].make()
    session = model.open(2, CAPACITY)
    broken = session.extend(Pass([0], [[1, 2, 0] + [3] * 20], wanted=[1])).logits
    assert np.isnan(to_numpy(broken)).all()
    session.keep(0, range(10))
    session.release(0)
    texts = [text(model, 3, 1), text(model, 30, 2)]
    texts = [[max(token, 1) for token in tokens] for tokens in texts]
    for row, tokens in enumerate(texts):  # by themselves, or padding might bury what is left of the first text
        session.extend(Pass([row], [tokens], wanted=[0]))
        session.keep(row, range(len(tokens)))
    found = session.extend(Pass([0, 1], [[5], [6, 7]])).logits
    same(found, np.concatenate([fresh(model, [*texts[0], 5]), fresh(model, [*texts[1], 6, 7], 2)]))


def test_what_no_cache_could_do_is_refused(model):
    session = model.open(2, 8)
    with pytest.raises(InputError, match="would hold 9 tokens: this session was opened for 8"):
        session.extend(Pass([0], [[0] * 9]))
    with pytest.raises(InputError, match="extended by no token"):
        session.extend(Pass([0], [[]]))
    with pytest.raises(InputError, match="distinct and below 2"):
        session.extend(Pass([0, 0], [[1], [1]]))
    with pytest.raises(InputError, match="one earlier tentative token each"):
        session.extend(Pass([0], [[1, 2]], [[-1, 1]]))
    session.extend(Pass([0], [[1, 2, 3]], [[-1, 0, 0]]))
    with pytest.raises(InputError, match="does not lead from the last committed token"):
        session.keep(0, [0, 1, 2])
    with pytest.raises(InputError, match="cannot be cut to 5 tokens"):
        session.truncate(0, 5)


def test_logits_are_those_of_other_code(model, truth):
    tokens = random.Random(0).choices(range(model.traits.vocab_size), k=30)
    same(fresh(model, tokens, 30), truth(tokens).logits)


def test_hidden_states_are_those_of_other_code(model, truth):
    if model.traits.hidden_size is None:
        return  # it refuses to be asked: see below
    last = model.traits.layers
    assert model.traits.hidden_size == 32
    one, other = text(model, 9, 1), text(model, 5, 2)
    for layers in ((0, 1, last), (last, 1)):
        features = Features(hidden=layers)
        session = model.open(2, CAPACITY)
        # Prompts in pieces, whose logits nobody wants; of every fed token the states are told.
        scored = session.extend(Pass([0, 1], [one[:6], other], wanted=[0, 1], features=features))
        expected = [[truth(tokens).hidden[layer] for layer in layers] for tokens in (one, other)]
        for found, of_one, of_other in zip(scored.hidden, *expected, strict=True):
            same(found, np.concatenate([of_one[:6], of_other]))
        session.keep(0, range(6))
        session.keep(1, range(5))
        # A tree behind row 0, and one token behind row 1.
        work = Pass([0, 1], [[*one[6:], 3, 4, 5], [7]], [[-1, 0, 1, 2, 2, 4], [-1]], [4, 1], features)
        scored = session.extend(work)
        assert len(scored.logits) == 5
        paths = ([*one, 3], [*one, 4, 5], [*other, 7])
        expected = [[truth(path).hidden[layer] for layer in layers] for path in paths]
        for found, left, right, of_other in zip(scored.hidden, *expected, strict=True):
            same(found, np.concatenate([left[6:], right[-2:], of_other[-1:]]))


def test_the_most_probable_tokens_are_those_of_the_logits(model):
    session = model.open(2, CAPACITY)
    features = Features(top=3)
    scored = session.extend(Pass([0, 1], [text(model, 5, 1), text(model, 3, 2)], wanted=[2, 3], features=features))
    scored.wait()
    logits = to_numpy(scored.logits).astype(np.float64)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    tokens, probabilities = to_numpy(scored.top.tokens), to_numpy(scored.top.probabilities)
    assert tokens.shape == probabilities.shape == (5, 3)
    np.testing.assert_allclose(probabilities, -np.sort(-p)[:, :3], rtol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(p, tokens.astype(np.int64), -1), probabilities, rtol=1e-4)
    nothing = session.extend(Pass([0], [text(model, 2)], wanted=[0], features=features))
    assert nothing.top.tokens.shape == (0, 3)
    assert session.extend(Pass([0], [text(model, 1)])).top is None


def test_features_that_cannot_be_had_are_refused(model):
    session = model.open(1, CAPACITY)
    traits = model.traits
    unknown = Features(hidden=(traits.layers + 1,)) if traits.hidden_size else Features(hidden=(0,))
    why = "it has layers 0 to" if traits.hidden_size else "gives no hidden states"
    for features, message in ((unknown, why), (Features(top=traits.vocab_size + 1), "its vocabulary has")):
        with pytest.raises(InputError, match=message):
            session.extend(Pass([0], [text(model, 4)], features=features))
    same(session.extend(Pass([0], [text(model, 4)], wanted=[1])).logits, fresh(model, text(model, 4)))
