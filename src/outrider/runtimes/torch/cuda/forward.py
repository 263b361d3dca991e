"""The forward pass of Llama-like models over a cache of fixed slots, without a step that the host decides.

Some twenty operations a layer, none of which reads a number on the host, so that a whole pass can be captured.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Protocol

import torch

from outrider.runtimes.torch.cuda.device import Device
from outrider.runtimes.torch.cuda.slots import SlotCache
from outrider.runtimes.torch.linears import Build, DenseLinear
from outrider.runtimes.torch.llama_layers import Layer, Shape, Weights

functional = torch.nn.functional
# From the number of a layer and queries [tokens, heads, size] to what they see, in the same shape.
Attend = Callable[[int, torch.Tensor], torch.Tensor]
EMBEDDING = "model.embed_tokens.weight"


class SlotForward(Protocol):
    """A forward pass over a cache of slots.

    Attributes:
        windows: of each layer, how many tokens back a token sees, itself included; None is no limit.
        vocab_size: numbers that come of a scored token.
    """

    shape: Shape
    dtype: torch.dtype
    device: Device
    windows: tuple[int | None, ...]

    @property
    def vocab_size(self) -> int: ...

    @property
    def hidden_size(self) -> int: ...

    def __call__(
        self,
        cache: SlotCache,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        places: torch.Tensor,
        attend: Attend,
        scored: torch.Tensor,
        layers: Sequence[int] = (),
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """One pass.

        Args:
            tokens, positions, places: int64 [tokens].
            scored: int64, the numbers of the tokens whose logits are wanted.
            layers: whose hidden states are wanted.

        Returns:
            logits [scored, vocab], and hidden states [tokens, hidden size] of each of `layers`.
        """


class SlotLlama:
    """The forward pass of a Llama-like model.

    Args:
        weights: by their names in transformers; taken out one by one, and brought to the device.
        frequencies: float32 [head size / 2], of the rotary position embedding.
        scaling: of its cosines and sines.
        dtype: of weights, activations, keys and values.
        windows: of each layer, how many tokens back a token sees, itself included; None is no limit.
        build: lays out a linear.

    Attributes:
        embedding: [vocabulary, hidden size].

    Raises:
        ModelError: a weight is missing.
    """

    def __init__(
        self,
        shape: Shape,
        weights: MutableMapping[str, torch.Tensor],
        frequencies: torch.Tensor,
        scaling: float,
        dtype: torch.dtype,
        device: Device,
        windows: Sequence[int | None] = (),
        build: Build = DenseLinear,
    ) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.windows = tuple(windows) or (None,) * shape.layers
        self._frequencies = frequencies.to(device=device.place, dtype=torch.float32)
        self._scaling = scaling
        source = Weights(weights, build, dtype, dtype, shape.epsilon, device.place)
        self.embedding = source.take(EMBEDDING)
        self._head = source.head(self.embedding)()
        self._layers = [source.layer(number) for number in range(shape.layers)]
        self._norm = source.norm("model.norm")

    @property
    def vocab_size(self) -> int:
        return int(self.embedding.shape[0])

    @property
    def hidden_size(self) -> int:
        return int(self.embedding.shape[1])

    @property
    def bytes_per_token(self) -> int:
        """Of keys and values in all layers."""
        shape = self.shape
        return 2 * shape.layers * shape.key_heads * shape.head_size * self.dtype.itemsize

    def __call__(
        self,
        cache: SlotCache,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        places: torch.Tensor,
        attend: Attend,
        scored: torch.Tensor,
        layers: Sequence[int] = (),
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """As `SlotForward`."""
        found = dict[int, torch.Tensor]()
        x = functional.embedding(tokens, self.embedding)  # [tokens, hidden]
        turns = self._turns(positions)
        for number, layer in enumerate(self._layers):
            if number in layers:
                found[number] = x.clone()  # x is updated in place
            x += self._attention(layer, number, layer.input_norm(x), turns, cache, places, attend)
            gate, up = layer.gate_up(layer.mlp_norm(x)).chunk(2, dim=-1)
            x += layer.down(functional.silu(gate).mul_(up))
        if len(self._layers) in layers:
            found[len(self._layers)] = self._norm(x)
        logits = self._head(self._norm(x.index_select(0, scored)))
        return logits, tuple(found[layer] for layer in layers)

    def _attention(
        self,
        layer: Layer,
        number: int,
        x: torch.Tensor,
        turns: tuple[torch.Tensor, torch.Tensor],
        cache: SlotCache,
        places: torch.Tensor,
        attend: Attend,
    ) -> torch.Tensor:
        heads, key_heads, size = self.shape.heads, self.shape.key_heads, self.shape.head_size
        joined = layer.queries_keys_values(x).view(len(x), heads + 2 * key_heads, size)
        turned, values = joined[:, : heads + key_heads], joined[:, heads + key_heads :]
        if layer.query_norm is not None and layer.key_norm is not None:
            turned = torch.cat([layer.query_norm(turned[:, :heads]), layer.key_norm(turned[:, heads:])], dim=1)
        # Rotating the halves of a head: (a, b) -> (a cos - b sin, b cos + a sin).
        cos, signed_sin = turns
        turned = torch.addcmul(turned * cos, turned.roll(size // 2, -1), signed_sin)
        cache.write(number, places, turned[:, heads:], values)
        return layer.output(attend(number, turned[:, :heads]).reshape(len(x), heads * size))

    def _turns(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines, and sines with the sign of their half, [tokens, 1, head size] (arXiv 2104.09864, section 3.4.2)."""
        angles = positions[:, None].float() * self._frequencies
        cos, sin = angles.cos() * self._scaling, angles.sin() * self._scaling
        both = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
        return both[0].to(self.dtype)[:, None], both[1].to(self.dtype)[:, None]
