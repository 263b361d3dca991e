"""Products of int8: exact, with instructions for them and without."""

import pytest

torch = pytest.importorskip("torch")

from outrider.runtimes.torch import linears  # noqa: E402

LARGEST = 127
INPUTS = 2 * linears.EXACT_INPUTS + 7  # in three pieces
OUTPUTS = linears.OUTPUTS_AT_ONCE + 9


def digits(rows, columns, seed):
    return torch.randint(-LARGEST, LARGEST + 1, (rows, columns), dtype=torch.int8, generator=torch.manual_seed(seed))


def exactly(x, weight):
    return (x.long() @ weight.long()).int()


def test_sums_in_float32_are_those_of_whole_numbers():
    x, weight = digits(3, INPUTS, seed=0), digits(OUTPUTS, INPUTS, seed=1).t()
    assert torch.equal(linears.multiply_in_float32(x, weight), exactly(x, weight))


def test_so_are_the_largest_ones():
    x, weight = torch.full((1, INPUTS), LARGEST, dtype=torch.int8), torch.full((INPUTS, 2), LARGEST, dtype=torch.int8)
    assert torch.equal(linears.multiply_in_float32(x, -weight), exactly(x, -weight))


@pytest.mark.parametrize("own_instructions", [False, True])
def test_a_token_has_the_same_numbers_whoever_stands_beside_it(monkeypatch, own_instructions):
    monkeypatch.setattr(linears, "computes_int8", lambda: own_instructions)
    draw = torch.manual_seed(0)
    weight, bias = torch.randn(24, 64, generator=draw), torch.randn(24, generator=draw)
    x = torch.randn(20, 64, generator=draw)
    linear = linears.build("int8", weight, bias)
    together = linear(x)
    assert torch.allclose(together, torch.nn.functional.linear(x, weight, bias), atol=0.2)
    for token in range(len(x)):
        assert torch.equal(linear(x[token : token + 1])[0], together[token])
