"""The same operations over NumPy, PyTorch and MLX arrays: NumPy is the reference."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactness.libraries import LIBRARIES, array_maker
from outrider import InputError
from outrider.maths.arrays import (
    columns,
    divide,
    float32,
    float32_on_host,
    gather,
    keep_where_at_least,
    keyed_race,
    kth_largest,
    largest,
    log_sum_exp,
    multiply,
    nucleus_threshold,
    on_host,
    operations,
    positive_difference,
    race,
    race_order,
    replace,
    softmax,
    stack,
    sums,
    to_numpy,
    token_at,
    top,
    top_of_logits,
    without,
)
from outrider.maths.noise import exponential, exponential_of_tokens

VOCAB_SIZES = (1, 2, 7, 300, 50_000)
KEYS = [(0, 0), (1, 2), (2**32 - 1, 2**31), (0xDEADBEEF, 0x12345678)]


def logits(vocab_size: int, rows: int = 3) -> np.ndarray:
    """Random, with ties and with -inf where there is room for them."""
    generator = np.random.default_rng(vocab_size)
    values = generator.normal(0, 3, (rows, vocab_size)).astype(np.float32)
    values[1] = values[1].round()
    if vocab_size > 2:
        values[2, generator.integers(0, vocab_size, vocab_size // 3)] = -np.inf
        values[2, 1] = 1.5
    return values


def weights(vocab_size: int, rows: int = 3) -> np.ndarray:
    return softmax(logits(vocab_size, rows))


def close(found, expected, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(to_numpy(found), expected, rtol=tolerance, atol=1e-7)


@pytest.fixture(params=LIBRARIES)
def make(request):
    return array_maker(request.param)


@pytest.fixture(params=VOCAB_SIZES)
def vocab_size(request) -> int:
    return request.param


def test_float32_comes_from_any_library_and_any_precision(make) -> None:
    like = make(np.zeros(1, dtype=np.float32))
    values = np.array([[1.5, -2.0, 3.25]])
    for other in LIBRARIES:
        for precision in (np.float16, np.float32):
            found = float32(array_maker(other)(values.astype(precision)), like=like)
            assert operations(found) is operations(like)
            assert to_numpy(found).dtype == np.float32
            close(found, values)
            assert float32_on_host(found).dtype == np.float32
            close(float32_on_host(found), values)


@pytest.mark.parametrize("library", ["torch", "mlx"])
def test_bfloat16_crosses_to_the_host(library: str) -> None:
    array = array_maker(library)([1.5, -2.0])
    module = sys.modules["torch" if library == "torch" else "mlx.core"]
    half = array.to(module.bfloat16) if library == "torch" else array.astype(module.bfloat16)
    close(half, [1.5, -2.0])
    assert to_numpy(half).dtype == np.float32


def test_a_tensor_that_tracks_gradients_crosses_to_the_host() -> None:
    tensor = pytest.importorskip("torch").tensor([[1.0, 2.0]], requires_grad=True)
    close(tensor, [[1, 2]])
    assert gather(tensor, [0], [1]) == 2
    assert sums(tensor) == 3


def test_softmax_and_log_sum_exp(make, vocab_size) -> None:
    x = logits(vocab_size)
    exact = np.exp(x.astype(np.float64))
    close(softmax(make(x)), exact / exact.sum(axis=-1, keepdims=True), 1e-4)
    close(log_sum_exp(make(x)), np.log(exact.sum(axis=-1)), 1e-5)


def test_largest_is_the_first_of_equals(make, vocab_size) -> None:
    x = logits(vocab_size)
    values, tokens = largest(make(x))
    np.testing.assert_array_equal(values, x.max(axis=-1))
    np.testing.assert_array_equal(tokens, x.argmax(axis=-1))
    assert values.dtype == np.float64
    assert tokens.dtype == np.int64


@pytest.mark.parametrize("place", [0, 3, 6])
def test_largest_sees_a_nan(make, place: int) -> None:
    x = logits(7)
    x[1, place] = np.nan
    values, _ = largest(make(x))
    assert np.isnan(values).tolist() == [False, True, False]


def test_gather_and_replace(make, vocab_size) -> None:
    x = logits(vocab_size)
    rows, tokens = [0, 2, 1], [0, vocab_size - 1, vocab_size // 2]
    gathered = gather(make(x), rows, tokens)
    np.testing.assert_array_equal(gathered, x[rows, tokens])
    assert gathered.dtype == np.float64
    original = make(x)
    replaced = replace(original, rows, tokens, np.array([1.0, -np.inf, 2.5]))
    expected = x.copy()
    expected[rows, tokens] = [1.0, -np.inf, 2.5]
    np.testing.assert_array_equal(to_numpy(replaced), expected)
    np.testing.assert_array_equal(to_numpy(original), x)


def test_sums_differences_quotients_and_products(make, vocab_size) -> None:
    p, q = weights(vocab_size), weights(vocab_size)[::-1].copy()
    factor = np.array([0.25, 1.0, 3.0])
    close(sums(make(p)), p.sum(axis=-1, dtype=np.float64), 1e-6)
    close(positive_difference(make(p), make(q)), np.maximum(p - q, 0))
    close(divide(make(p), factor), p / factor[:, None])
    close(multiply(make(p), factor), p * factor[:, None])


def test_one_row_by_itself(make, vocab_size) -> None:
    """Residuals are computed on [vocab], without a row axis."""
    p = weights(vocab_size)
    assert float(sums(make(p[0]))) == pytest.approx(1)
    close(divide(make(p[0]), sums(make(p[0]))), p[0])
    close(multiply(make(p[0]), np.asarray(0.5)), p[0] / 2)


def test_without_takes_tokens_out_of_a_copy(make) -> None:
    p = weights(7)[0]
    original = make(p)
    found = without(original, [0, 4])
    expected = p.copy()
    expected[[0, 4]] = 0
    np.testing.assert_array_equal(to_numpy(found), expected)
    np.testing.assert_array_equal(to_numpy(original), p)


def test_columns_are_chosen_and_missing_ones_filled(make, vocab_size) -> None:
    x = logits(vocab_size)
    tokens = np.array([vocab_size - 1, -1, 0, 0, -1])
    found = columns(make(x), tokens, -np.inf)
    expected = np.full((3, 5), -np.inf)
    expected[:, 0], expected[:, 2], expected[:, 3] = x[:, -1], x[:, 0], x[:, 0]
    np.testing.assert_array_equal(to_numpy(found), expected)
    assert to_numpy(found).dtype == np.float32


def test_thresholds(make, vocab_size) -> None:
    x = logits(vocab_size)
    for k in {1, (vocab_size + 1) // 2, vocab_size}:
        threshold = kth_largest(make(x), k)
        expected = np.sort(x, axis=-1)[:, ::-1][:, k - 1 : k]
        np.testing.assert_array_equal(to_numpy(threshold), expected)
        kept = keep_where_at_least(make(x), threshold, -np.inf)
        np.testing.assert_array_equal(to_numpy(kept), np.where(x >= expected, x, -np.inf))


@pytest.mark.parametrize("mass", [1e-6, 0.3, 0.9, 0.999])
def test_the_nucleus_is_the_shortest_prefix_that_holds_the_mass(make, vocab_size, mass: float) -> None:
    p = weights(vocab_size)
    thresholds = to_numpy(nucleus_threshold(make(p), mass))
    for row, threshold in zip(p, thresholds[:, 0], strict=True):
        assert threshold in row
        assert row[row >= threshold].sum(dtype=float) > mass - 1e-6
        assert row[row > threshold].sum(dtype=float) < mass + 1e-6


def test_stack(make) -> None:
    p = weights(7)
    np.testing.assert_array_equal(to_numpy(stack([make(row) for row in p])), p)


def test_noise_is_the_same_in_every_library(make, vocab_size) -> None:
    found = exponential(KEYS, vocab_size, make(weights(vocab_size)))
    expected = exponential(KEYS, vocab_size, weights(vocab_size))
    assert operations(found) is operations(make(weights(1)))
    np.testing.assert_allclose(to_numpy(found), expected, rtol=3e-6)
    small = expected < 1  # these decide who wins
    np.testing.assert_allclose(to_numpy(found)[small], expected[small], rtol=1e-6)
    assert (expected > 0).all()
    assert np.isfinite(expected).all()


def test_noise_comes_from_the_same_bits_in_every_library(make) -> None:
    """The rank of a token among 50,000 tells about all of its bits."""
    found = to_numpy(exponential(KEYS, 50_000, make(weights(1))))
    expected = exponential(KEYS, 50_000, weights(1))
    smallest = expected < 0.5  # beyond, float32 cannot tell neighbours apart
    order = np.argsort(np.where(smallest, expected, np.inf), axis=-1)[:, : smallest.sum(axis=-1).min()]
    sorted_like_the_reference = np.take_along_axis(found, order, axis=-1)
    assert (np.diff(sorted_like_the_reference, axis=-1) >= -1e-7).all()


def test_noise_of_some_tokens_is_part_of_the_noise_of_all() -> None:
    tokens = np.array([3, 0, 49_999, 77])
    whole = exponential(KEYS[2:3], 50_000, weights(1))[0]
    np.testing.assert_array_equal(exponential_of_tokens(KEYS[2], tokens), whole[tokens])


def test_races(make, vocab_size) -> None:
    p = weights(vocab_size, rows=len(KEYS))
    noise = exponential(KEYS, vocab_size, p)
    winners = race(make(p), make(noise))
    np.testing.assert_array_equal(winners, (p / noise).argmax(axis=-1))
    count = min(5, vocab_size)
    for row in range(2):
        order = race_order(make(p[row]), make(noise[row]), count)
        assert order == np.argsort(-(p[row] / noise[row]), kind="stable")[:count].tolist()
        assert order[0] == winners[row]


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_the_race_of_a_key_is_that_of_its_noise(make, vocab_size, spread: float) -> None:
    keys = [(seed, 77) for seed in range(200)]
    logits = np.random.default_rng(vocab_size).normal(0, spread, (200, vocab_size))
    p = np.exp(logits - logits.max(axis=-1, keepdims=True)).astype(np.float32)
    p[0, 1:] = 0
    expected = (p / exponential(keys, vocab_size, p)).argmax(axis=-1)
    np.testing.assert_array_equal(keyed_race(make(p), keys), expected)


def test_the_largest_come_first_and_say_where_they_stand(make) -> None:
    x = np.array([[1, 4, 2, 3], [-1, 0, -math.inf, 5]], dtype=np.float32)
    values, tokens = top(make(x), 3)
    np.testing.assert_array_equal(values, [[4, 3, 2], [5, 0, -1]])
    np.testing.assert_array_equal(tokens, [[1, 3, 2], [3, 1, 0]])
    assert top(make(x), 9)[1].shape == (2, 4)


@pytest.mark.parametrize("count", [1, 4, 8, 700, 50_001])
def test_the_largest_of_every_vocabulary(make, vocab_size, count: int) -> None:
    x = np.random.default_rng(count).permuted(np.tile(np.arange(vocab_size, dtype=np.float32), (3, 1)), axis=1)
    expected = np.argsort(-x, axis=-1)[:, :count]
    values, tokens = top(make(x), count)
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(x, expected, axis=-1))
    assert (values.dtype, tokens.dtype) == (np.float64, np.int64)


@pytest.mark.parametrize("count", [1, 8, 60_000])
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_the_most_probable_tokens_of_logits(make, vocab_size, precision: str, count: int) -> None:
    """Among these logits are equal ones, and in low precision there are many."""
    made = _in_precision(make(logits(vocab_size)), precision)
    exact = np.exp(to_numpy(made).astype(np.float64))
    exact /= exact.sum(axis=-1, keepdims=True)
    tokens, probabilities = top_of_logits(made, count)
    assert tokens.shape == probabilities.shape == (3, min(count, vocab_size))
    assert (tokens.dtype, probabilities.dtype) == (np.int64, np.float32)
    assert all(len(set(row)) == len(row) for row in tokens.tolist())
    close(probabilities, np.take_along_axis(exact, tokens, axis=-1))
    close(probabilities, -np.sort(-exact, axis=-1)[:, :count])
    assert (np.diff(probabilities, axis=-1) <= 0).all()


def _in_precision(x, precision: str):
    if isinstance(x, np.ndarray):
        return x.astype(np.float32 if precision == "bfloat16" else precision)  # NumPy has no bfloat16
    if operations(x).name == "torch":
        return x.to(getattr(sys.modules["torch"], precision))
    return x.astype(getattr(sys.modules["mlx.core"], precision))


@pytest.mark.parametrize("library", LIBRARIES)
@given(data=st.data())
@settings(max_examples=100)
def test_on_a_cpu_the_first_of_equal_tokens_comes_first(library: str, data) -> None:
    """Against sorting the whole row: the engine takes the first column for the greedy choice."""
    width = data.draw(st.one_of(st.integers(1, 400), st.sampled_from([640, 8192, 8200, 50_257])), label="width")
    rows, count = data.draw(st.integers(1, 7), label="rows"), data.draw(st.integers(1, 12), label="count")
    values = data.draw(st.integers(1, 40), label="different values")
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    x = generator.integers(-values, values, (rows, width)).astype(np.float32)  # many are equal, 0 and -0 too
    x[x == 0] *= generator.choice([-1, 1], (x == 0).sum())
    x[generator.random(x.shape) < data.draw(st.sampled_from([0, 0.02, 0.9]), label="share of -inf")] = -np.inf
    x[:, generator.integers(0, width)] = values - 1
    make = array_maker(library)
    made = _in_precision(make(x), data.draw(st.sampled_from(["bfloat16", "float32"]), label="precision"))
    expected = np.argsort(-x, axis=-1, kind="stable")[:, :count]
    tokens, probabilities = top_of_logits(made, count)
    if on_host(made):
        np.testing.assert_array_equal(tokens, expected)
        np.testing.assert_array_equal(top(make(x), count)[1], expected)
        np.testing.assert_array_equal(tokens[:, 0], largest(made)[1])
    exact = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    close(probabilities, np.take_along_axis(exact / exact.sum(-1, keepdims=True), expected, axis=-1))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 200, 8199])
def test_a_bad_logit_makes_its_row_of_the_most_probable_nan(make, bad: float, place: int) -> None:
    x = np.random.default_rng(0).normal(0, 3, (9, 8200)).astype(np.float32)
    x[3, place] = bad
    x[5] = -math.inf
    x[7, 0], x[7, 1:] = 5, -math.inf  # this row has one token, and is sound
    tokens, probabilities = top_of_logits(make(x), 4)
    assert np.isnan(probabilities).all(axis=-1).nonzero()[0].tolist() == [3, 5]
    assert np.isnan(probabilities).any(axis=-1).sum() == 2
    assert ((tokens >= 0) & (tokens < 8200)).all()


def test_equal_logits_are_equally_probable(make) -> None:
    for vocab_size in (3, 300):
        tokens, probabilities = top_of_logits(make(np.full((2, vocab_size), 7, dtype=np.float32)), 3)
        assert all(len(set(row)) == 3 for row in tokens.tolist())
        np.testing.assert_allclose(probabilities, 1 / vocab_size, rtol=1e-6)


def test_the_most_probable_tokens_of_no_rows(make) -> None:
    tokens, probabilities = top_of_logits(make(np.zeros((0, 300), dtype=np.float32)), 4)
    assert tokens.shape == probabilities.shape == (0, 4)


def test_a_token_of_no_weight_never_wins(make) -> None:
    p = np.array([0, 0.5, 0, 0.5], dtype=np.float32)
    keys = [(7, position) for position in range(500)]
    noise = exponential(keys, 4, make(p))
    winners = race(stack([make(p)] * 500), noise)
    assert set(winners.tolist()) == {1, 3}


def test_the_token_at_a_share_of_the_whole(make) -> None:
    p = np.array([0, 0.25, 0, 0.5, 0.25, 0], dtype=np.float32)
    shares = {0.0: 1, 0.2499: 1, 0.25: 3, 0.7499: 3, 0.75: 4, 1 - 2**-53: 4}
    for share, token in shares.items():
        assert token_at(make(p), share) == token
        assert token_at(make(8 * p), share) == token
        assert token_at(make(0 * p), share) == -1


def test_rare_tokens_of_a_large_vocabulary_keep_their_share(make) -> None:
    """Running sums in float32 would give them nothing, or what belongs to others."""
    p = np.full(100_000, 1e-9, dtype=np.float32)
    p[0] = 1
    rest = 1e-9 * 99_999
    for share in (0.1, 0.5, 0.9):
        token = token_at(make(p), (1 + share * rest) / (1 + rest))
        assert token == pytest.approx(share * 100_000, abs=20)


def test_what_is_no_array_is_refused() -> None:
    with pytest.raises(InputError, match="cannot compute with a dict: give a numpy"):
        operations({})


def test_importing_the_package_imports_no_array_library_but_numpy() -> None:
    code = (
        "import sys\nfrom outrider import *\nprint([m for m in ('torch', 'mlx', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
