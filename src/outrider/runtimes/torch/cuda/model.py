"""Llama-like models on a GPU, behind the Model protocol."""

from __future__ import annotations

from typing import Any

import torch

from outrider.runtimes.base import Named, Traits
from outrider.runtimes.torch.cuda.device import Device, device_at
from outrider.runtimes.torch.cuda.forward import SlotLlama
from outrider.runtimes.torch.cuda.session import BUCKETS, GraphSession
from outrider.runtimes.torch.linears import Build, DenseLinear
from outrider.runtimes.torch.llama_layers import Shape, is_llama_like, weights_of, windows_of
from outrider.runtimes.torch.stated import context_length_of, stop_token_ids_of
from outrider.text import Tokenizer

# Their rotations depend on the length of a text, which the host would have to be asked for.
GROWING = {"dynamic", "longrope"}


class GraphedLlama(Named):
    """A model of Llama, Mistral, Qwen2 or Qwen3 whose passes are replayed as captured graphs.

    Args:
        forward: the forward pass.
        traits: what the model states about itself.

    Attributes:
        device: where it runs.
    """

    def __init__(self, forward: SlotLlama, traits: Traits, tokenizer: Tokenizer | None, name: str) -> None:
        self.name, self.traits, self.tokenizer = name, traits, tokenizer
        self.device = forward.device.place
        self._forward = forward

    @classmethod
    def of(
        cls,
        model: Any,
        *,
        dtype: torch.dtype | None = None,
        device: Device | str | torch.device = "cuda",
        tokenizer: Tokenizer | None = None,
        name: str | None = None,
        build: Build = DenseLinear,
    ) -> GraphedLlama:
        """Take the weights of a model of transformers, which can no longer be run.

        Args:
            model: one that `can_take_over` takes.
            dtype: float32, bfloat16 or float16; None is the model's own.
            build: lays out a linear, perhaps in fewer bits.
            device: `cpu` runs the same code without graphs: for tests, it is slower than a model for the CPU.
        """
        config, rotary = model.config, model.model.rotary_emb
        on = device_at(torch.device(device)) if isinstance(device, str | torch.device) else device
        named = (getattr(config, "_name_or_path", "") or type(model).__name__) if name is None else name
        precision = model.dtype if dtype is None else dtype
        context, stop = context_length_of(config, named), stop_token_ids_of(model)
        shape, frequencies, scaling = Shape.of(model), rotary.inv_freq, float(rotary.attention_scaling)
        forward = SlotLlama(shape, weights_of(model), frequencies, scaling, precision, on, windows_of(config), build)
        traits = Traits(
            forward.vocab_size,
            context,
            stop,
            pads_rows=True,
            asynchronous=on.place.type == "cuda",
            hidden_size=forward.hidden_size,
            layers=shape.layers,
            bytes_per_token=forward.bytes_per_token,
            buckets=BUCKETS,
        )
        return cls(forward, traits, tokenizer, named)

    def free_bytes(self) -> int | None:
        return self._forward.device.free_bytes()

    def embedding(self) -> torch.Tensor:
        return self._forward.embedding

    def open(self, rows: int, capacity: int) -> GraphSession:
        return GraphSession(self._forward, rows, capacity, self.name, self.traits)


def can_take_over(model: Any) -> bool:
    """Whether this forward pass computes what a model of transformers computes."""
    return is_llama_like(model) and model.model.rotary_emb.rope_type not in GROWING
