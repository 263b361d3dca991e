"""The same operations over NumPy, PyTorch and MLX arrays: NumPy is the reference."""

import math
import subprocess
import sys

import numpy as np
import pytest

from exactness.libraries import LIBRARIES, array_maker
from outrider import InputError
from outrider.maths.arrays import NUMPY, operations, to_numpy
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
    return NUMPY.softmax(logits(vocab_size, rows))


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
    ops = operations(like)
    values = np.array([[1.5, -2.0, 3.25]])
    for other in LIBRARIES:
        for precision in (np.float16, np.float32):
            found = ops.float32(array_maker(other)(values.astype(precision)), like=like)
            assert ops.owns(found)
            assert to_numpy(found).dtype == np.float32
            close(found, values)


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
    ops = operations(tensor)
    assert ops.gather(tensor, [0], [1]) == 2
    assert ops.sums(tensor) == 3


def test_softmax_and_log_sum_exp(make, vocab_size) -> None:
    x = logits(vocab_size)
    ops = operations(make(x))
    exact = np.exp(x.astype(np.float64))
    close(ops.softmax(make(x)), exact / exact.sum(axis=-1, keepdims=True), 1e-4)
    close(ops.log_sum_exp(make(x)), np.log(exact.sum(axis=-1)), 1e-5)


def test_largest_is_the_first_of_equals(make, vocab_size) -> None:
    x = logits(vocab_size)
    values, tokens = operations(make(x)).largest(make(x))
    np.testing.assert_array_equal(values, x.max(axis=-1))
    np.testing.assert_array_equal(tokens, x.argmax(axis=-1))
    assert values.dtype == np.float64
    assert tokens.dtype == np.int64


@pytest.mark.parametrize("place", [0, 3, 6])
def test_largest_sees_a_nan(make, place: int) -> None:
    x = logits(7)
    x[1, place] = np.nan
    values, _ = operations(make(x)).largest(make(x))
    assert np.isnan(values).tolist() == [False, True, False]


def test_gather_and_replace(make, vocab_size) -> None:
    x = logits(vocab_size)
    rows, tokens = [0, 2, 1], [0, vocab_size - 1, vocab_size // 2]
    ops = operations(make(x))
    gathered = ops.gather(make(x), rows, tokens)
    np.testing.assert_array_equal(gathered, x[rows, tokens])
    assert gathered.dtype == np.float64
    original = make(x)
    replaced = ops.replace(original, rows, tokens, np.array([1.0, -np.inf, 2.5]))
    expected = x.copy()
    expected[rows, tokens] = [1.0, -np.inf, 2.5]
    np.testing.assert_array_equal(to_numpy(replaced), expected)
    np.testing.assert_array_equal(to_numpy(original), x)


def test_sums_differences_quotients_and_products(make, vocab_size) -> None:
    p, q = weights(vocab_size), weights(vocab_size)[::-1].copy()
    factor = np.array([0.25, 1.0, 3.0])
    ops = operations(make(p))
    close(ops.sums(make(p)), p.sum(axis=-1, dtype=np.float64), 1e-6)
    close(ops.positive_difference(make(p), make(q)), np.maximum(p - q, 0))
    close(ops.divide(make(p), factor), p / factor[:, None])
    close(ops.multiply(make(p), factor), p * factor[:, None])


def test_one_row_by_itself(make) -> None:
    """Residuals are computed on [vocab], without a row axis."""
    p = weights(7)
    ops = operations(make(p))
    assert float(ops.sums(make(p[0]))) == pytest.approx(1)
    close(ops.divide(make(p[0]), ops.sums(make(p[0]))), p[0])
    close(ops.multiply(make(p[0]), np.asarray(0.5)), p[0] / 2)


def test_without_takes_tokens_out_of_a_copy(make) -> None:
    p = weights(7)[0]
    original = make(p)
    found = operations(original).without(original, [0, 4])
    expected = p.copy()
    expected[[0, 4]] = 0
    np.testing.assert_array_equal(to_numpy(found), expected)
    np.testing.assert_array_equal(to_numpy(original), p)


def test_columns_are_chosen_and_missing_ones_filled(make, vocab_size) -> None:
    x = logits(vocab_size)
    tokens = np.array([vocab_size - 1, -1, 0, 0, -1])
    found = operations(make(x)).columns(make(x), tokens, -np.inf)
    expected = np.full((3, 5), -np.inf)
    expected[:, 0], expected[:, 2], expected[:, 3] = x[:, -1], x[:, 0], x[:, 0]
    np.testing.assert_array_equal(to_numpy(found), expected)
    assert to_numpy(found).dtype == np.float32


def test_thresholds(make, vocab_size) -> None:
    x = logits(vocab_size)
    ops = operations(make(x))
    for k in {1, (vocab_size + 1) // 2, vocab_size}:
        threshold = ops.kth_largest(make(x), k)
        expected = np.sort(x, axis=-1)[:, ::-1][:, k - 1 : k]
        np.testing.assert_array_equal(to_numpy(threshold), expected)
        kept = ops.keep_where_at_least(make(x), threshold, -np.inf)
        np.testing.assert_array_equal(to_numpy(kept), np.where(x >= expected, x, -np.inf))


@pytest.mark.parametrize("mass", [1e-6, 0.3, 0.9, 0.999])
def test_the_nucleus_is_the_shortest_prefix_that_holds_the_mass(make, vocab_size, mass: float) -> None:
    p = weights(vocab_size)
    thresholds = to_numpy(operations(make(p)).nucleus_threshold(make(p), mass))
    for row, threshold in zip(p, thresholds[:, 0], strict=True):
        assert threshold in row
        assert row[row >= threshold].sum(dtype=float) > mass - 1e-6
        assert row[row > threshold].sum(dtype=float) < mass + 1e-6


def test_stack(make) -> None:
    p = weights(7)
    np.testing.assert_array_equal(to_numpy(operations(make(p)).stack([make(row) for row in p])), p)


def test_noise_is_the_same_in_every_library(make, vocab_size) -> None:
    found = exponential(KEYS, vocab_size, make(weights(vocab_size)))
    expected = exponential(KEYS, vocab_size, weights(vocab_size))
    assert operations(found).name == operations(make(weights(1))).name
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
    ops = operations(make(p))
    winners = ops.race(make(p), make(noise))
    np.testing.assert_array_equal(winners, (p / noise).argmax(axis=-1))
    count = min(5, vocab_size)
    for row in range(2):
        order = ops.race_order(make(p[row]), make(noise[row]), count)
        assert order == np.argsort(-(p[row] / noise[row]), kind="stable")[:count].tolist()
        assert order[0] == winners[row]


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_the_race_of_a_key_is_that_of_its_noise(make, vocab_size, spread: float) -> None:
    keys = [(seed, 77) for seed in range(200)]
    logits = np.random.default_rng(vocab_size).normal(0, spread, (200, vocab_size))
    p = np.exp(logits - logits.max(axis=-1, keepdims=True)).astype(np.float32)
    p[0, 1:] = 0
    ops = operations(make(p))
    expected = (p / exponential(keys, vocab_size, p)).argmax(axis=-1)
    np.testing.assert_array_equal(ops.keyed_race(make(p), keys), expected)


def test_the_largest_come_first_and_say_where_they_stand(make) -> None:
    x = np.array([[1, 4, 2, 3], [-1, 0, -math.inf, 5]], dtype=np.float32)
    values, tokens = operations(make(x)).top(make(x), 3)
    np.testing.assert_array_equal(values, [[4, 3, 2], [5, 0, -1]])
    np.testing.assert_array_equal(tokens, [[1, 3, 2], [3, 1, 0]])
    assert operations(make(x)).top(make(x), 9)[1].shape == (2, 4)


def test_a_token_of_no_weight_never_wins(make) -> None:
    p = np.array([0, 0.5, 0, 0.5], dtype=np.float32)
    keys = [(7, position) for position in range(500)]
    noise = exponential(keys, 4, make(p))
    winners = operations(noise).race(operations(noise).stack([make(p)] * 500), noise)
    assert set(winners.tolist()) == {1, 3}


def test_the_token_at_a_share_of_the_whole(make) -> None:
    p = np.array([0, 0.25, 0, 0.5, 0.25, 0], dtype=np.float32)
    shares = {0.0: 1, 0.2499: 1, 0.25: 3, 0.7499: 3, 0.75: 4, 1 - 2**-53: 4}
    for share, token in shares.items():
        assert operations(make(p)).token_at(make(p), share) == token
        assert operations(make(p)).token_at(make(8 * p), share) == token
        assert operations(make(p)).token_at(make(0 * p), share) == -1


def test_rare_tokens_of_a_large_vocabulary_keep_their_share(make) -> None:
    """Running sums in float32 would give them nothing, or what belongs to others."""
    p = np.full(100_000, 1e-9, dtype=np.float32)
    p[0] = 1
    rest = 1e-9 * 99_999
    for share in (0.1, 0.5, 0.9):
        token = operations(make(p)).token_at(make(p), (1 + share * rest) / (1 + rest))
        assert token == pytest.approx(share * 100_000, abs=20)


def test_what_is_no_array_is_refused() -> None:
    with pytest.raises(InputError, match="cannot compute with a dict: give a numpy"):
        operations({})


def test_importing_the_package_imports_no_array_library_but_numpy() -> None:
    code = "import outrider, sys; print([m for m in ('torch', 'mlx', 'transformers') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
