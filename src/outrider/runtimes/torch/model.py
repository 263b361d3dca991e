"""Any causal language model of Hugging Face transformers, on PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from outrider.errors import ModelError
from outrider.maths.budget import USUAL_DRAFT
from outrider.runtimes.base import Named, Session, Traits
from outrider.runtimes.replay import ReplaySession
from outrider.runtimes.torch.padded import PaddedForward
from outrider.runtimes.torch.placement import free_bytes
from outrider.runtimes.torch.session import Forward, TorchSession
from outrider.runtimes.torch.stated import context_length_of, stop_token_ids_of
from outrider.runtimes.torch.transformers_state import Recurrent, find_recurrent
from outrider.runtimes.torch.trial import WINDOW, shares_passes
from outrider.runtimes.torch.twins import input_device, move_buffers, twin_of, with_windows
from outrider.text import Tokenizer

# A pass that reads weights from the disk or from the host takes long whatever its width: much wider drafts may pay.
WIDEST_WHERE_READ = 512
ATTENDING_LAYERS = {"full_attention", "sliding_attention"}


class TransformersModel(Named):
    """A transformers causal language model behind the Model protocol.

    The model object is never changed: Outrider runs a twin (twins.py) that shares its weights. Rows share passes where
    a few tokens read that way give what the model itself gives. Otherwise, and where layers have a state that cannot
    be rolled back (Mamba, hybrids), each row is read by itself over transformers' own cache, by snapshot and replay.

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
        self.module = model
        config = model.config.get_text_config(decoder=True)
        self.name = name if name is not None else getattr(config, "_name_or_path", "") or type(model).__name__
        if getattr(config, "is_encoder_decoder", False):
            raise ModelError(f"model {self.name} is an encoder-decoder: use a decoder-only causal language model")
        self.tokenizer = tokenizer
        self._place = input_device(model)
        self.traits = Traits(
            int(config.vocab_size),
            context_length_of(config, self.name),
            stop_token_ids_of(model),
            asynchronous=self._place.type == "cuda",
            layers=int(config.num_hidden_layers),
            widest=WIDEST_WHERE_READ if _reads_weights(model) else USUAL_DRAFT,
        )
        self._runs: Forward | Recurrent = fused if fused is not None else self._find_way()
        shared = not isinstance(self._runs, Recurrent)
        self.traits = replace(
            self.traits,
            pads_rows=isinstance(self._runs, PaddedForward),
            hidden_size=int(config.hidden_size) if shared else None,
            bytes_per_token=self._runs.bytes_per_token,
            reads_branches=not shared,
            crops=shared,
        )

    def _find_way(self) -> PaddedForward | Recurrent:
        """Passes that rows share, or else snapshot and replay."""
        model = self.module
        twin = twin_of(model, self.name)
        if twin is not None and _takes_plans(model):
            padded = shares_passes(twin, self.name, self.traits)
            if padded is not None:
                return padded
            short = with_windows(twin, self.name, WINDOW)
            if short is not None and short is not twin:  # it may be at odds with itself beyond its window
                find_recurrent(short, self.traits.vocab_size, self.name)
        return find_recurrent(model if twin is None else twin, self.traits.vocab_size, self.name)

    @property
    def device(self) -> torch.device:
        return input_device(self.module)

    @property
    def shares_passes(self) -> bool:
        """Whether rows share passes; otherwise each is read by itself, by snapshot and replay."""
        return not isinstance(self._runs, Recurrent)

    @property
    def bytes_per_token(self) -> int:
        return self.traits.bytes_per_token

    def free_bytes(self) -> int | None:
        return free_bytes(self.device)

    def embedding(self) -> torch.Tensor:
        weight: torch.Tensor = self.module.get_input_embeddings().weight
        return weight.detach()

    def open(self, rows: int, capacity: int) -> Session:
        runs = self._runs
        if isinstance(runs, PaddedForward | Recurrent) and self.device != self._place:
            self._place = self.device
            move_buffers(runs.module, self._place)
        if isinstance(runs, Recurrent):
            return ReplaySession(runs.reader, rows, capacity, self.name, self.traits)
        return TorchSession(runs, rows, capacity, self.name, self.traits)


def _reads_weights(model: Any) -> bool:
    """Whether weights lie elsewhere, and are put into their modules for a moment in each pass (accelerate)."""
    return any(weight.device.type == "meta" for weight in model.parameters())


def _takes_plans(model: Any) -> bool:
    """Whether all layers attend, and by a function that can be exchanged for one that follows a plan."""
    config = model.config.get_text_config(decoder=True)
    return (
        not getattr(model, "_is_stateful", False)
        and set(getattr(config, "layer_types", None) or ()) <= ATTENDING_LAYERS
        and bool(getattr(model, "_supports_attention_backend", False))
    )
