"""What sessions of PyTorch do beyond what every session does (test_sessions.py): how texts are read, and precisions."""

from dataclasses import replace

import numpy as np
import pytest

from outrider import ModelError
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Pass
from tiny import runtimes
from tiny.runtimes import MAMBA, made
from tiny.sessions import CAPACITY, TOLERANCES, text, worst_node

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


def test_a_model_that_cannot_be_read_token_by_token_is_refused():
    from outrider.runtimes.torch.model import TransformersModel

    recurrent_gemma = runtimes.tiny("RecurrentGemma", lru_width=32, attention_window_size=6, conv1d_width=3)
    with pytest.raises(ModelError, match=r"gives other logits when a text is read token by token \(.*FunctionModel"):
        TransformersModel(recurrent_gemma)


@pytest.mark.parametrize(("kind", "steps"), [("torch-mamba", True), ("torch-jamba", True), ("torch-qwen3-next", False)])
def test_models_of_transformers_that_forget_what_was_before_are_read_token_by_token(kind, steps):
    session = made(kind).open(1, CAPACITY)
    assert session._readers[0].stepwise == steps


def test_a_model_that_forgets_what_hardly_mattered_is_found_out_too():
    from outrider.runtimes.torch.model import TransformersModel

    model = TransformersModel(runtimes.tiny("Mamba", **MAMBA, initializer_range=0.1))
    assert model.open(1, CAPACITY)._readers[0].stepwise


def test_int8_gives_a_token_the_same_logits_in_any_batch():
    from outrider.runtimes.torch.linears import Int8Linear

    torch.manual_seed(0)
    linear = Int8Linear(torch.randn(40, 64), torch.randn(40))
    x = torch.randn(16, 64) * torch.logspace(-3, 3, 16)[:, None]
    together = linear(x)
    for row in range(16):
        assert torch.equal(linear(x[row : row + 1])[0], together[row])


def test_int8_products_are_close_despite_outliers():
    from outrider.runtimes.torch.linears import Int8Linear

    torch.manual_seed(0)
    weight = torch.randint(-127, 128, (40, 64)).float() / 127  # of which int8 loses nothing
    weight[:, 0] = 1
    x = torch.randn(4, 64)
    x[:, 3] = 300  # an outlier, next to which one digit would leave nothing of the rest
    exact = x @ weight.T
    assert (Int8Linear(weight, None)(x) - exact).abs().max() < 0.05


def in_precision(dtype):
    if dtype in ("float32", "int8"):
        return runtimes.fused("Llama", dtype).make()
    from outrider.runtimes.torch.model import TransformersModel

    return TransformersModel(runtimes.tiny("Llama").to(getattr(torch, dtype)))


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_nodes_of_a_tree_are_right_in_every_precision(dtype):
    model = in_precision(dtype)
    assert max(worst_node(model, seed) for seed in range(5)) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_of_few_tokens_the_wanted_ones_are_read(dtype):
    """However few are fed: in bfloat16 copies of the first stand behind them."""
    model = runtimes.fused("Llama", dtype).make()
    for fed in range(1, 7):
        tokens = text(model, fed)
        everything = to_numpy(model.open(1, CAPACITY).extend(Pass([0], [tokens])).logits).astype(np.float64)
        for wanted in range(fed + 1):
            found = to_numpy(model.open(1, CAPACITY).extend(Pass([0], [tokens], wanted=[wanted])).logits).astype(
                np.float64
            )
            assert found.shape == (wanted, model.traits.vocab_size)
            allowed = TOLERANCES[dtype] * np.abs(everything).max()
            np.testing.assert_allclose(found, everything[fed - wanted :], rtol=0, atol=allowed)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("held", [0, 17, 96])
def test_a_long_text_is_what_it_is_in_short_pieces(dtype, held):
    """Attention over it is cut into pieces: every token has to see all that stands before it."""
    model = runtimes.fused("Llama", dtype).make()
    tokens = text(model, 240)
    session = model.open(1, 256)
    expected = []
    for first in range(0, len(tokens), 16):
        expected.append(to_numpy(session.extend(Pass([0], [tokens[first : first + 16]])).logits).astype(np.float64))
        session.keep(0, range(len(tokens[first : first + 16])))
    expected = np.concatenate(expected)
    session = model.open(2, 256)
    if held:
        session.extend(Pass([1], [tokens[:held]], wanted=[0]))
        session.keep(1, range(held))
    found = to_numpy(session.extend(Pass([1], [tokens[held:]])).logits).astype(np.float64)
    np.testing.assert_allclose(found, expected[held:], rtol=0, atol=TOLERANCES[dtype] * np.abs(expected).max())


@pytest.mark.parametrize("keys", [1, 32])
def test_a_long_text_is_cut_so_that_little_is_looked_at_in_vain(keys):
    from outrider.runtimes.torch.ragged_cache import PIECE, SHORT, Blocks

    for start in (0, 1, 31, 96, 200):
        for count in (1, 5, SHORT, SHORT + 1, 300, 512):
            pieces = Blocks(keys=keys).pieces(start, count)
            assert [place for piece in pieces for place in piece] == list(range(count))
            if count > SHORT:
                assert max(map(len, pieces)) <= PIECE
                assert all((start + piece.start) % keys == 0 for piece in pieces[1:])


def leaking(plan):
    """Every node sees the node before it, whoever its parent is."""
    sees = plan.sees.copy()
    for node in range(1, plan.counts[0]):
        sees[0, node, plan.starts[0] + node - 1] = True
    return replace(plan, sees=sees)


def by_index(plan):
    """Every node stands where its place among the tokens fed says."""
    places = np.arange(plan.starts[0], plan.starts[0] + plan.counts[0])
    return replace(plan, positions=places[None, :])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("mistake", [leaking, by_index])
def test_a_leaking_mask_and_a_wrong_position_are_found(mistake, dtype, monkeypatch):
    model = in_precision(dtype)
    from outrider.runtimes.layout import Plan

    right = Plan.of.__func__

    def wrong(cls, ledger, rows, counts):
        plan = right(cls, ledger, rows, counts)
        chain = all(parent == node - 1 for node, parent in enumerate(ledger.parents(rows[0])))
        return plan if chain else mistake(plan)

    monkeypatch.setattr(Plan, "of", classmethod(wrong))
    assert worst_node(model) > 2 * TOLERANCES[dtype]
