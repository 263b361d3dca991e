"""A lean forward pass for Llama-like models on a CPU.

transformers computes a layer in some sixty small operations, and a decoding step of a small model spends a third of its
time between them. This module takes the weights of a model (Llama, Mistral, Qwen2, Qwen3), joins the linears that share
an input, and computes the same in about twenty operations. Nothing is padded: the tokens of all rows lie in one flat
batch, and only attention looks at rows.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from outrider.runtimes.torch.linears import activation_dtype, build
from outrider.runtimes.torch.llama_layers import Layer, Shape, Weights, is_llama_like, weights_of, windows_of
from outrider.runtimes.torch.ragged_cache import Blocks, RaggedCache, TorchPlan

# Measured: in blocks of this size, and with linears in oneDNN's layout, a token's logits are the same bits in any pass.
BFLOAT16_BLOCKS = Blocks(keys=32, queries=4)
# oneDNN multiplies a single row by another kernel, with other bits, and two or three rows take as long as four: smaller
# passes are padded with copies of the first token, whose results are dropped.
FEWEST_BFLOAT16_TOKENS = 4
functional = torch.nn.functional
Hidden = tuple[torch.Tensor, ...]
Rotation = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class FusedLlama:
    """The forward pass.

    Args:
        weights: by their names in transformers. They are taken out one by one, so that only a few exist twice at a
            time.
        rotary: from activations (for their precision) and positions [1, tokens] to cosines and sines
            [1, tokens, head size].
        kind: float32, bfloat16, float16 or int8.
        precision: the dtype of the weights before they are laid out.

    Attributes:
        dtype: of activations, keys and values.

    Raises:
        ModelError: a weight is missing.
    """

    def __init__(
        self,
        shape: Shape,
        weights: MutableMapping[str, torch.Tensor],
        rotary: Rotation,
        kind: str,
        precision: torch.dtype,
    ) -> None:
        self.dtype = activation_dtype(kind)
        self.heads, self.key_heads, self.head_size = shape.heads, shape.key_heads, shape.head_size
        self._rotary = rotary
        source = Weights(weights, partial(build, kind), precision, self.dtype, shape.epsilon)
        self._embedding = source.take("model.embed_tokens.weight")
        build_head = source.head(self._embedding)
        # Laying weights out takes longer than reading them, and releases Python's lock (GIL).
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            head = pool.submit(build_head)
            self._layers = list(pool.map(source.layer, range(shape.layers)))
            self._head = head.result()
        self._norm = source.norm("model.norm")

    @property
    def bytes_per_token(self) -> int:
        """Of keys and values in all layers."""
        return 2 * len(self._layers) * self.key_heads * self.head_size * self.dtype.itemsize

    @property
    def embedding(self) -> torch.Tensor:
        """[vocabulary, hidden size]."""
        return self._embedding

    def new_cache(self, rows: int, capacity: int) -> RaggedCache:
        return RaggedCache(rows, capacity, BFLOAT16_BLOCKS if self.dtype is torch.bfloat16 else Blocks())

    @torch.inference_mode()
    def forward(
        self, cache: RaggedCache, tokens: Sequence[Sequence[int]], wanted: Sequence[int], layers: Sequence[int] = ()
    ) -> tuple[torch.Tensor, Hidden]:
        """Run the cache's present plan.

        Returns:
            logits [sum of wanted, vocab] of the last `wanted` tokens of each row, and for each of `layers` the hidden
            states [fed tokens, hidden size].
        """
        plan = cache.plan
        assert plan is not None
        flat = [token for new in tokens for token in new]
        fed, found = len(flat), dict[int, torch.Tensor]()
        positions = torch.cat([torch.from_numpy(plan.positions[b, :n]) for b, n in enumerate(plan.counts)])
        if copies := self._missing(len(flat)):
            flat += flat[:1] * copies
            positions = torch.cat([positions, positions[:1].expand(copies)])
        ids = torch.tensor(flat)
        x = functional.embedding(ids, self._embedding).to(self.dtype)  # [tokens, hidden]
        cos, signed_sin = self._rotation(x, positions)
        for number, layer in enumerate(self._layers):
            if number in layers:
                found[number] = x[:fed].clone()  # x is updated in place
            x += self._attention(layer, number, layer.input_norm(x), cos, signed_sin, cache, plan)
            gate, up = layer.gate_up(layer.mlp_norm(x)).chunk(2, dim=-1)
            x += layer.down(functional.silu(gate).mul_(up))
        if len(self._layers) in layers:
            found[len(self._layers)] = self._norm(x)[:fed]
        hidden = tuple(found[layer] for layer in layers)
        rows = _last_of_each(plan.counts, wanted)
        if len(rows) < sum(plan.counts):
            x = x[rows + rows[:1] * self._missing(len(rows))]
        return self._head(self._norm(x))[: len(rows)], hidden

    def _missing(self, count: int) -> int:
        """How many copies pad a pass over so few tokens."""
        return max(FEWEST_BFLOAT16_TOKENS - count, 0) if self.dtype is torch.bfloat16 else 0

    def _attention(
        self,
        layer: Layer,
        number: int,
        x: torch.Tensor,
        cos: torch.Tensor,
        signed_sin: torch.Tensor,
        cache: RaggedCache,
        plan: TorchPlan,
    ) -> torch.Tensor:
        heads, key_heads, size = self.heads, self.key_heads, self.head_size
        joined = layer.queries_keys_values(x).view(len(x), heads + 2 * key_heads, size)
        turned, values = joined[:, : heads + key_heads], joined[:, heads + key_heads :]
        if layer.query_norm is not None and layer.key_norm is not None:
            turned = torch.cat([layer.query_norm(turned[:, :heads]), layer.key_norm(turned[:, heads:])], dim=1)
        # Rotating the halves of a head: (a, b) -> (a cos - b sin, b cos + a sin).
        turned = torch.addcmul(turned * cos, turned.roll(size // 2, -1), signed_sin)
        fed = sum(plan.counts)  # tokens after these are copies (_missing)
        queries, keys, values = turned[:fed, :heads], turned[:fed, heads:], values[:fed]
        groups = heads // key_heads
        cache.append(number, keys, values)
        outputs = []
        for stretch in plan.stretches:
            rows, width = stretch.size, stretch.width
            asked = queries[stretch.tokens]
            padded = asked if stretch.padded_index is None else asked[stretch.padded_index]
            # Query heads that share a key head follow one another, as if they were more queries.
            folded = padded.view(rows, width, key_heads, groups, size).permute(0, 2, 3, 1, 4)
            folded = folded.reshape(rows, key_heads, groups * width, size)
            output = _attend(folded, *cache.held(number, stretch), plan.mask_of(stretch, folded, groups), plan.blocks)
            apart = output.reshape(rows, key_heads, groups, width, size).permute(0, 3, 1, 2, 4)
            apart = apart.reshape(-1, heads * size)
            outputs.append(apart if stretch.token_index is None else apart[stretch.token_index])
        return layer.output(_with_copies(outputs[0] if len(outputs) == 1 else torch.cat(outputs), len(x)))

    def _rotation(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines, and sines with the sign of their half, [tokens, 1, head size]."""
        cos, sin = self._rotary(x[None], positions[None])
        half = sin.shape[-1] // 2
        signed_sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        return cos[0, :, None], signed_sin[0, :, None]


def _with_copies(x: torch.Tensor, count: int) -> torch.Tensor:
    """[count, size]: the rows of `x`, then copies of its first one."""
    return x if len(x) == count else torch.cat([x, x[:1].expand(count - len(x), -1)])


def _attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, blocks: Blocks
) -> torch.Tensor:
    """Attention, [rows, heads, queries, size]; queries are padded to whole blocks while it is computed."""
    count = queries.shape[2]
    if missing := blocks.missing_queries(count):
        queries = functional.pad(queries, (0, 0, 0, missing))
    output = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return output[:, :, :count] if missing else output


def can_take_over(model: Any) -> bool:
    """Whether this forward pass computes what the model computes."""
    return is_llama_like(model) and not any(windows_of(model.config)) and model.device.type == "cpu"


def take_over(model: Any, kind: str) -> FusedLlama:
    """Move the weights of a transformers model into a FusedLlama; the model can no longer be run.

    Args:
        kind: float32, bfloat16, float16 or int8.
    """
    weights = weights_of(model)
    precision = weights["model.embed_tokens.weight"].dtype
    return FusedLlama(Shape.of(model), weights, model.model.rotary_emb, kind, precision)


def _last_of_each(counts: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Indices of the last `wanted` of each run of `counts` tokens."""
    rows: list[int] = []
    end = 0
    for count, want in zip(counts, wanted, strict=True):
        end += count
        rows.extend(range(end - want, end))
    return rows
