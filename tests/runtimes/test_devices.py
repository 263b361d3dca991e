"""A model may lie on several devices: what a pass makes once, its masks and indices, it makes once for each of them.

The second device is PyTorch's meta device, which has shapes and no numbers: mixing it with the CPU is an error.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from outrider.runtimes.ledger import Ledger  # noqa: E402
from outrider.runtimes.torch.ragged_cache import RaggedCache, TorchPlan  # noqa: E402

HEADS, SIZE, CAPACITY = 2, 4, 8


@pytest.fixture
def plan():
    ledger = Ledger(2, CAPACITY)
    ledger.extend([0, 1], [[1, 2, 3], [4]], None)
    return TorchPlan.of(ledger, [0, 1], [3, 1])


@pytest.mark.parametrize("order", [("cpu", "meta"), ("meta", "cpu")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_device_has_a_mask_of_its_own(plan, order, dtype):
    masks = [plan.mask(torch.zeros(1, dtype=dtype, device=device), 1, None) for device in order]
    assert [mask.device.type for mask in masks] == list(order)
    assert {mask.dtype for mask in masks} == {dtype}
    here = masks[order.index("cpu")]
    assert np.array_equal(here[0, 0] == 0, np.tril(np.ones((3, 3), dtype=bool)))
    for device, mask in zip(order, masks, strict=True):
        assert plan.mask(torch.zeros(1, dtype=dtype, device=device), 1, None) is mask


def test_each_device_has_a_mask_of_its_own_for_every_call(plan):
    for stretch in plan.stretches:
        masks = [plan.mask_of(stretch, torch.zeros(1, device=device), 1) for device in ("cpu", "meta")]
        assert [mask.device.type for mask in masks if mask is not None] in ([], ["cpu", "meta"])
    assert any(plan.mask_of(stretch, torch.zeros(1), 1) is not None for stretch in plan.stretches)


@pytest.mark.parametrize("order", [("cpu", "meta"), ("meta", "cpu")])
def test_layers_keep_what_they_hold_on_their_own_device(plan, order):
    cache = RaggedCache(2, CAPACITY)
    cache.plan = plan
    new = torch.arange(2 * HEADS * 3 * SIZE, dtype=torch.float32).reshape(2, HEADS, 3, SIZE)
    held = [cache.write(layer, new.to(device), new.to(device)) for layer, device in enumerate(order)]
    assert [(keys.device.type, values.device.type) for keys, values in held] == [(device, device) for device in order]
    keys, _ = held[order.index("cpu")]
    assert torch.equal(keys[0], new[0])
    assert torch.equal(keys[1, :, :1], new[1, :, :1])
