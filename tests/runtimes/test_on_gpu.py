"""What is done otherwise on a GPU, as far as it can be tried on a CPU. benchmarks/gpu.py runs the rest on one."""

import pytest
import test_sessions

from outrider.runtimes.base import Pass
from tiny.runtimes import MAMBA, QWEN3_NEXT, tiny, wrapped

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from outrider.runtimes.torch import ragged_cache  # noqa: E402
from outrider.runtimes.torch.model import TransformersModel  # noqa: E402


@pytest.mark.parametrize("kind", ["Llama", "GPTNeoX"])
@pytest.mark.parametrize("seed", range(2))
def test_rows_that_are_written_in_one_kernel_hold_what_they_should(kind, seed, monkeypatch):
    written = []

    def at_once(buffer, new, plan):
        written.append(plan.counts)
        ragged_cache.write_at_once(buffer, new, plan)

    monkeypatch.setattr(ragged_cache, "write_row_by_row", at_once)
    test_sessions.test_any_course_of_calls_equals_a_fresh_prefill(wrapped(kind).make(), seed)
    assert any(len(set(counts)) > 1 for counts in written), "no padded batch was written"


@pytest.mark.parametrize(("kind", "settings"), [("Llama", {}), ("Mamba", MAMBA), ("Qwen3Next", QWEN3_NEXT)])
def test_no_pass_runs_with_attention_of_cudnn(kind, settings):
    """It builds a plan for every new length of text."""
    module = tiny(kind, **settings)
    seen = []
    module.register_forward_hook(lambda *unused: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    model = TransformersModel(module)
    seen.clear()  # of the trial
    before = torch.backends.cuda.cudnn_sdp_enabled()
    model.open(1, 16).extend(Pass([0], [[1, 2, 3]]))
    assert seen
    assert not any(seen)
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_the_attention_of_others_is_as_before_after_a_pass_that_failed(monkeypatch):
    module = tiny("Llama")
    full = False

    def fail(*unused):
        if full:
            raise RuntimeError("out of memory")

    module.register_forward_pre_hook(fail)
    model = TransformersModel(module)
    full = True
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with pytest.raises(RuntimeError, match="out of memory"):
        model.open(1, 16).extend(Pass([0], [[1, 2, 3]]))
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
