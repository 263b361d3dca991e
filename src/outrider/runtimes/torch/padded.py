"""One pass of a transformers model over rows of different lengths, padded to the longest."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from outrider.runtimes.torch.attention import without_cudnn
from outrider.runtimes.torch.placement import sent
from outrider.runtimes.torch.session import Hidden
from outrider.runtimes.torch.transformers_cache import ATTENTION, TransformersCache
from outrider.runtimes.torch.twins import input_device


class PaddedForward:
    """A Forward of a transformers model, with attention that follows a plan.

    Args:
        module: a twin (twins.py) that nobody else runs; its attention function is exchanged for good.
        window: of the attention of all layers, in tokens, for a model that tells it to its mask alone (PhiMoE); None
            where the layers tell it to the attention function, or there is none.
    """

    def __init__(self, module: Any, window: int | None = None) -> None:
        self.module = module
        self._told = {} if window is None else {"sliding_window": window}
        config = module.config.get_text_config(decoder=True)
        config._attn_implementation = ATTENTION
        self._keeps_logits = "logits_to_keep" in inspect.signature(module.forward).parameters
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.bytes_per_token = int(2 * config.num_hidden_layers * heads * size * module.dtype.itemsize)

    def new_cache(self, rows: int, capacity: int) -> TransformersCache:
        return TransformersCache(rows, capacity)

    @torch.inference_mode()
    def forward(
        self,
        cache: TransformersCache,
        tokens: Sequence[Sequence[int]],
        wanted: Sequence[int],
        layers: Sequence[int] = (),
    ) -> tuple[torch.Tensor, Hidden]:
        """Logits [sum of wanted, vocab] of the last `wanted` tokens of each row of the cache's present plan, and hidden
        states [fed tokens, hidden size] of these layers.
        """
        plan = cache.plan
        assert plan is not None
        device = input_device(self.module)
        padded = [list(new) + [0] * (plan.width - len(new)) for new in tokens]
        ends = list(zip(plan.counts, wanted, strict=True))
        columns = sorted({column for n, w in ends for column in range(n - w, n)}) or [0]
        whole = len(columns) == plan.width
        arguments: dict[str, Any] = {
            "input_ids": sent(torch.tensor(padded), device),
            "position_ids": sent(torch.from_numpy(plan.positions), device),
            "past_key_values": cache,
            "use_cache": True,
            "outrider_plan": plan,
            **self._told,
        }
        if layers:
            arguments["output_hidden_states"] = True
        if self._keeps_logits and not whole:
            arguments["logits_to_keep"] = sent(torch.tensor(columns), device)
        with without_cudnn():
            output = self.module(**arguments)
        hidden = _flat_hidden(output.hidden_states, layers, plan.counts) if layers else ()
        logits: torch.Tensor = output.logits  # [batch, columns, vocab]
        if not (self._keeps_logits or whole):
            logits = logits[:, columns]
        if sum(wanted) == logits.shape[0] * logits.shape[1]:
            return logits.flatten(0, 1), hidden
        place = {column: index for index, column in enumerate(columns)}
        batch = [b for b, w in enumerate(wanted) for _ in range(w)]
        scored = [place[column] for n, w in ends for column in range(n - w, n)]
        # As a list it would be copied to the device when the pass is done, and the host would wait.
        at = sent(torch.tensor([batch, scored], dtype=torch.int64), logits.device)
        return logits[at[0], at[1]], hidden


def _flat_hidden(states: Sequence[torch.Tensor], layers: Sequence[int], counts: Sequence[int]) -> Hidden:
    """Hidden states [fed tokens, hidden size] of these layers, from [batch, width, hidden size] of all."""
    return tuple(torch.cat([states[layer][row, :count] for row, count in enumerate(counts)]) for layer in layers)
