"""Any causal language model of Hugging Face transformers, on PyTorch."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from outrider.errors import ModelError
from outrider.runtimes.base import UNBOUNDED, Named, Session, Traits, stop_token_ids
from outrider.runtimes.replay import ReplaySession
from outrider.runtimes.torch.attention import without_cudnn
from outrider.runtimes.torch.placement import free_bytes
from outrider.runtimes.torch.session import Forward, Hidden, TorchSession
from outrider.runtimes.torch.transformers_cache import ATTENTION, TransformersCache
from outrider.runtimes.torch.transformers_state import find_recurrent
from outrider.text import Tokenizer

ATTENDING_LAYERS = {"full_attention", "sliding_attention"}
# Attention arguments that change the scores; PyTorch's fused attention cannot compute them.
UNSUPPORTED_CONFIG = ("attn_logit_softcapping",)


class TransformersModel(Named):
    """A transformers causal language model behind the Model protocol.

    The model object is used as it is: its weights stay, and its attention implementation is replaced only while
    Outrider runs it. Some models take no attention mask, or have layers with a state that cannot be rolled back
    (Mamba, hybrids). Their rows are read one by one over transformers' own cache, by snapshot and replay.

    Args:
        model: for example from AutoModelForCausalLM.from_pretrained.
        tokenizer: see text.py.
        name: for messages.
        fused: computes the forward pass instead of the model (fused_llama.py); then the model object is only asked for
            its configuration.

    Raises:
        ModelError: it is an encoder-decoder, or gives other logits when a text is read token by token.
    """

    def __init__(
        self, model: Any, *, tokenizer: Tokenizer | None = None, name: str | None = None, fused: Forward | None = None
    ) -> None:
        self.module = model.eval()
        self._forward: Forward = fused if fused is not None else self
        config = model.config.get_text_config(decoder=True)
        self._config = config
        self.name = name if name is not None else getattr(config, "_name_or_path", "") or type(model).__name__
        if getattr(config, "is_encoder_decoder", False):
            raise ModelError(f"model {self.name} is an encoder-decoder: use a decoder-only causal language model")
        vocab_size = int(config.vocab_size)
        self._recurrent = None if _takes_plans(model, config) else find_recurrent(model, vocab_size, self.name)
        self.tokenizer = tokenizer
        self.traits = Traits(
            vocab_size,
            int(getattr(config, "max_position_embeddings", None) or UNBOUNDED),
            _stop_token_ids(model),
            pads_rows=self._forward is self and self._recurrent is None,
            asynchronous=self.device.type == "cuda",
            hidden_size=None if self._recurrent is not None else int(config.hidden_size),
            layers=int(config.num_hidden_layers),
            bytes_per_token=self._bytes_of_cache(),
        )
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.module.parameters()).device
        return device

    @property
    def bytes_per_token(self) -> int:
        return self.traits.bytes_per_token

    def _bytes_of_cache(self) -> int:
        """Bytes of keys and values of all layers, per token."""
        if self._forward is not self:
            return self._forward.bytes_per_token
        if self._recurrent is not None:
            return self._recurrent.bytes_per_token
        config = self._config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * size * self.module.dtype.itemsize)

    def free_bytes(self) -> int | None:
        return free_bytes(self.device)

    def open(self, rows: int, capacity: int) -> Session:
        if self._recurrent is None:
            return TorchSession(self._forward, rows, capacity, self.name, self.traits)
        return ReplaySession(self._recurrent.reader, rows, capacity, self.name, self.traits)

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
        """Run the cache's present plan.

        Returns:
            logits [sum of wanted, vocab] of the last `wanted` tokens of each row, and for each of `layers` the hidden
            states [fed tokens, hidden size].
        """
        plan = cache.plan
        assert plan is not None
        device = self.device
        padded = [list(new) + [0] * (plan.width - len(new)) for new in tokens]
        ends = list(zip(plan.counts, wanted, strict=True))
        columns = sorted({column for n, w in ends for column in range(n - w, n)}) or [0]
        whole = len(columns) == plan.width
        arguments: dict[str, Any] = {
            "input_ids": torch.tensor(padded, device=device),
            "position_ids": torch.from_numpy(plan.positions).to(device),
            "past_key_values": cache,
            "use_cache": True,
            "outrider_plan": plan,
        }
        if layers:
            arguments["output_hidden_states"] = True
        if self._keeps_logits and not whole:
            arguments["logits_to_keep"] = torch.tensor(columns, device=device)
        with self._ragged_attention(), without_cudnn():
            output = self.module(**arguments)
        hidden = _flat_hidden(output.hidden_states, layers, plan.counts) if layers else ()
        logits: torch.Tensor = output.logits  # [batch, columns, vocab]
        if not (self._keeps_logits or whole):
            logits = logits[:, columns]
        if sum(wanted) == logits.shape[0] * logits.shape[1]:
            return logits.flatten(0, 1), hidden
        place = {column: index for index, column in enumerate(columns)}
        batch = [b for b, w in enumerate(wanted) for _ in range(w)]
        return logits[batch, [place[column] for n, w in ends for column in range(n - w, n)]], hidden

    @contextlib.contextmanager
    def _ragged_attention(self) -> Iterator[None]:
        before = self._config._attn_implementation
        self._config._attn_implementation = ATTENTION
        try:
            yield
        finally:
            self._config._attn_implementation = before


def _flat_hidden(states: Sequence[torch.Tensor], layers: Sequence[int], counts: Sequence[int]) -> Hidden:
    """Hidden states [fed tokens, hidden size] of `layers`, from [batch, width, hidden size] of all layers."""
    return tuple(torch.cat([states[layer][row, :count] for row, count in enumerate(counts)]) for layer in layers)


def _takes_plans(model: Any, config: Any) -> bool:
    """Whether all layers attend, by a function that Outrider's own attention may replace."""
    return (
        not getattr(model, "_is_stateful", False)
        and set(getattr(config, "layer_types", None) or ()) <= ATTENDING_LAYERS
        and getattr(model, "_supports_attention_backend", False)
        and all(getattr(config, field, None) is None for field in UNSUPPORTED_CONFIG)
    )


def _stop_token_ids(model: Any) -> frozenset[int]:
    generation = getattr(model, "generation_config", None)
    return stop_token_ids(getattr(generation, "eos_token_id", None), getattr(model.config, "eos_token_id", None))
