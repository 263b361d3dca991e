"""The multi-token prediction layers that a model comes with (DeepSeek-V3, arXiv 2412.19437, section 2.2).

Layer k reads, at position t, the output of layer k - 1 at t (layer 0: the target's last state), and the token at
t + k + 1; its output predicts the token at t + k + 2. transformers computes the layers. A model with one layer drafts
further tokens with it, each from its own last output. A model with several layers drafts one token with each, and goes
on with the last layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from outrider.drafters.heads.rows import Row, RowNetwork
from outrider.errors import ModelError
from outrider.runtimes.torch.model import TransformersModel

DEEPEST = 16
KNOWN_LAYERS = {"full_attention", "sliding_attention"}  # whose caches can be cut


class MtpHead(RowNetwork):
    """The MTP layers of a model as a HeadNetwork.

    Args:
        model: transformers' MtpModel.
        layers: how many layers the target has.
    """

    def __init__(self, model: Any, layers: int, vocab_size: int) -> None:
        super().__init__((layers,), vocab_size, model.layers[0].eh_proj.weight.detach(), DEEPEST)
        self.model = model

    @property
    def bytes_per_entry(self) -> int:
        config = self.model.config
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        keys = 2 * size * (getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        return int(len(self.model.layers) * keys * self._like.element_size())

    def open_row(self) -> Row:
        return MtpRow(self.model)

    def scores(self, made: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.model._project_to_logits(made)  # as its own forward pass does it
        return found


class MtpRow:
    """What the MTP layers have read of one text.

    Entry i of layer k is known once the token at i + k + 1 is. Up to there the layers' caches are kept between drafts.
    """

    def __init__(self, model: Any) -> None:
        from transformers.cache_utils import MtpCache

        self._model = model
        self._cache = MtpCache(config=model.config)
        self._cache.activate_past_recording()
        self._depth = len(model.layers)
        self._tokens: list[int] = []  # after each entry
        self._drafted: list[int] = []
        self._cached = [0] * self._depth  # entries in the cache of each layer
        # What each layer made of its last entries, and the number of the first of them.
        self._made: list[torch.Tensor | None] = [None] * self._depth
        self._first = [0] * self._depth

    def append(self, states: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
        self._tokens.extend(tokens)
        made = self._run(0, states, tokens)
        for layer in range(1, self._depth):
            start, end = self._cached[layer], max(self._known(layer), self._cached[layer])
            if end > start:
                self._run(layer, self._below(layer, start, end), self._tokens[start + layer : end + layer])
        self._forget()
        return made

    def draft(self, state: torch.Tensor, token: int) -> torch.Tensor:
        self._drafted.append(token)
        layer = len(self._drafted)
        if layer >= self._depth:
            return self._run(self._depth - 1, state, [token])
        start, end = self._cached[layer], len(self._tokens)
        text = self._tokens + self._drafted
        return self._run(layer, self._below(layer, start, end), text[start + layer : end + layer])[-1:]

    def cut(self, length: int) -> None:
        del self._tokens[length:]
        self._drafted.clear()
        for layer in range(self._depth):
            known = min(self._cached[layer], self._known(layer))
            self._cache.layers[layer].crop(known - self._cached[layer])
            self._cached[layer] = known
            made = self._made[layer]
            if made is not None:
                self._made[layer] = made[: max(known - self._first[layer], 0)]

    def _known(self, layer: int) -> int:
        """How many entries of a layer the text decides."""
        return max(len(self._tokens) - layer, 0)

    def _run(self, layer: int, states: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
        """The next entries of a layer, [entries, hidden size]."""
        first = self._cached[layer]
        ids = torch.tensor([list(tokens)], device=states.device)
        positions = torch.arange(first, first + len(tokens), device=states.device)[None] + layer + 1
        found: torch.Tensor = self._model.forward_layer(layer, states[None], positions, self._cache, input_ids=ids)[0]
        self._cached[layer] += len(tokens)
        before = self._made[layer]
        self._made[layer] = found if before is None else torch.cat([before, found])
        return found

    def _below(self, layer: int, start: int, end: int) -> torch.Tensor:
        """What the layer below made of entries."""
        made, first = self._made[layer - 1], self._first[layer - 1]
        assert made is not None, "the layer below reads first"
        assert start >= first, "entries are read one after the other"
        return made[start - first : end - first]

    def _forget(self) -> None:
        """Forget the outputs that no layer will need again. The newest entry is read once more."""
        for layer in range(self._depth):
            reader = self._cached[min(layer + 1, self._depth - 1)]
            made, least = self._made[layer], max(reader - self._depth - 1, self._first[layer])
            if made is not None:
                self._made[layer] = made[least - self._first[layer] :].clone()
                self._first[layer] = least


def open_mtp(target: Any) -> MtpHead:
    """The MTP layers of a target that transformers computes, read from the folder or hub name that it came from.

    Raises:
        ModelError: it has none, or they need something that is not computed here.
    """
    if not isinstance(target, TransformersModel):
        raise ModelError(
            f"the MTP layers of {target.name} are computed by transformers: open the model with backend torch"
        )
    module, name = target.module, target.name
    config = module.config.get_text_config(decoder=True)
    if not getattr(config, "num_mtp_layers", None):
        raise ModelError(f"config.json of {name} names no num_mtp_layers: transformers knows no MTP layers of it")
    from transformers.modeling_layers import MtpModel

    try:
        kinds = set(getattr(config.get_mtp_config(), "layer_types", None) or ())
        if not kinds <= KNOWN_LAYERS:
            raise ModelError(
                f"the MTP layers of {name} are of kind {sorted(kinds - KNOWN_LAYERS)[0]}: attention is read"
            )
        model = MtpModel.from_pretrained(module, device_map={"": target.device}).eval()
    except ModelError:
        raise
    except Exception as error:  # whatever transformers says of missing or damaged weights
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the MTP layers of {name} cannot be read: {reason}") from error
    return MtpHead(model, target.traits.layers, target.traits.vocab_size)
