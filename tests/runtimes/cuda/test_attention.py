"""Attention over a slotted cache: the reference against attention by hand, and the Triton kernel against the reference.

The kernel runs in Triton's interpreter, in a process of its own, because the interpreter is chosen when Triton is
imported."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from outrider.runtimes.torch.cuda.attention import attention_for, reference_attention  # noqa: E402
from outrider.runtimes.torch.cuda.sight import WORD, bits_of, seen_places, windowed, words_of  # noqa: E402
from runtimes.cuda.attention_cases import CASES, Case, inputs  # noqa: E402

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
MOST_SHARED_MEMORY = 227 * 1024  # bytes for one program on an H100


def lines_of(module: str, tmp_path: Path, **environment: str) -> dict[str, float]:
    """What the module prints, run by itself."""
    run = subprocess.run(
        [sys.executable, "-m", module],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path), **environment},
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return dict(json.loads(line) for line in run.stdout.splitlines())


def by_hand(case: Case) -> torch.Tensor:
    """Query by query, over nothing but what it sees."""
    given = inputs(case)
    seen = seen_places(given["bases"], given["ancestors"], given["keys"].shape[1], given["oldest"])
    output = torch.zeros_like(given["queries"])
    for row, slot in enumerate(given["slots"].tolist()):
        for token in range(case.width):
            places = seen[row, token].nonzero()[:, 0]
            for head in range(case.heads if len(places) else 0):
                of_head = (slot, places, head * case.key_heads // case.heads)
                scores = given["keys"][of_head] @ given["queries"][row, token, head] * case.size**-0.5
                output[row, token, head] = torch.softmax(scores, 0) @ given["values"][of_head]
    return output


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.dtype is torch.float32])
def test_the_reference_is_attention_over_what_a_token_sees(name: str) -> None:
    found = reference_attention(**inputs(CASES[name]))
    assert torch.allclose(found, by_hand(CASES[name]), atol=1e-5)


def test_words_hold_all_64_bits() -> None:
    bits = torch.rand(3, 5, 2 * WORD) < 0.5
    bits[0, 0] = True
    assert torch.equal(bits_of(words_of(bits)), bits)


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_a_window_is_one_of_positions(window: int) -> None:
    """Whatever place of the cache a token of a tree lies in."""
    parents = [-1, 0, 0, 1, 2, 4, 4, 6]
    base, capacity = 5, 20
    seen = torch.zeros(1, len(parents), WORD, dtype=torch.bool)
    for token, parent in enumerate(parents):
        if parent >= 0:
            seen[0, token] = seen[0, parent]
        seen[0, token, token] = True
    bases = torch.tensor([base])
    oldest, ancestors = windowed(bases, words_of(seen), window)
    found = seen_places(bases, ancestors, capacity, oldest)[0]
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    for token, depth in enumerate(depths):
        branch = [token]
        while parents[branch[-1]] >= 0:
            branch.append(parents[branch[-1]])
        positions = {place: place for place in range(base)} | {base + node: base + depths[node] for node in branch}
        expected = {place for place, position in positions.items() if position > base + depth - window}
        assert set(found[token].nonzero()[:, 0].tolist()) == expected


def test_without_a_gpu_the_reference_is_chosen() -> None:
    assert attention_for(torch.device("cpu")) is reference_attention


@needs_triton
def test_the_kernel_gives_what_the_reference_gives(tmp_path: Path) -> None:
    distances = lines_of("runtimes.cuda.attention_cases", tmp_path, TRITON_INTERPRET="1")
    assert distances.keys() == CASES.keys()
    assert {name: found for name, found in distances.items() if not found < TOLERANCE[CASES[name].dtype]} == {}


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Triton's compiler for NVIDIA's devices")
def test_the_kernels_compile_for_an_h100(tmp_path: Path) -> None:
    sizes = lines_of("runtimes.cuda.compiled_kernels", tmp_path)
    assert sizes
    assert all(size <= MOST_SHARED_MEMORY for size in sizes.values())
