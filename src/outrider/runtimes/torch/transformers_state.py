"""Models of transformers that take no mask or cannot be rolled back, read over transformers' own cache."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

from outrider.errors import ModelError, first_line
from outrider.runtimes.replay import Snapshots
from outrider.runtimes.torch.attention import without_cudnn
from outrider.runtimes.torch.placement import wait_for
from outrider.runtimes.torch.twins import input_device

CACHE_ARGUMENTS = ("past_key_values", "cache_params")
# Layers that append keys and values in a new tensor and leave the old tensor as it is.
APPENDING = {DynamicLayer, DynamicSlidingWindowLayer}
# Layers that overwrite their states, held in dictionaries, in place.
OVERWRITING = {
    LinearAttentionLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
}
TEXT_TO_TRY = range(1, 13)
# The lengths of the pieces, from the start of the text. Two ways: some models treat a single token as the next one of a
# text even where it is the first.
IN_PIECES = ((7, 1, 4), (1, 11))
IN_STEPS = ((7, 1, 1, 1, 1, 1), (1,) * 12)
IN_PAIRS = ((7, 5), (2,) * 6)
TIMES_ROUNDING = 10  # what rounding in all layers may be of that of the input
FAILURES = (TypeError, ValueError, RuntimeError, AttributeError, IndexError, NotImplementedError)
REMEDY = "pass it as a stateless function, outrider.FunctionModel(model), which is slower"


@dataclass(frozen=True)
class Recurrent:
    """How a model appends tokens to a text.

    Attributes:
        cache_argument: the name of the cache in its `forward`.
        in_pieces: whether it reads several tokens at once. Some models (Mamba, Jamba) do so with an empty cache only:
            later they silently forget the text before.
        bytes_per_token: bytes of keys and values, in the layers that have any.
        keeps_logits: whether its `forward` takes `logits_to_keep`.
        needs_positions: whether it must be told where its tokens stand. Some hybrids (Bamba) count what the cache of
            their first layer holds, which is a state and holds no tokens.
        own_cache: the class of its cache where it takes no other (MiniMax).
    """

    module: Any
    cache_argument: str
    in_pieces: bool = True
    bytes_per_token: int = 0
    keeps_logits: bool = False
    needs_positions: bool = False
    own_cache: type[DynamicCache] | None = None

    def reader(self) -> Snapshots:
        return Snapshots(self.start, stepwise=not self.in_pieces)

    def start(self) -> TransformersState:
        cache = DynamicCache(config=self.module.config) if self.own_cache is None else self.own_cache()
        return TransformersState(self, cache)


class TransformersState:
    """A text read by a model of transformers."""

    def __init__(self, model: Recurrent, cache: Any, length: int = 0) -> None:
        self._model = model
        self._cache = cache
        self._length = length

    @torch.inference_mode()
    def read(self, tokens: Sequence[int], wanted: int) -> torch.Tensor:
        step = len(tokens) if self._model.in_pieces or not self._length else 1
        pieces = [tokens[first : first + step] for first in range(0, len(tokens), step)]
        logits = torch.cat([self._read(piece, wanted) for piece in pieces])
        if logits.is_cuda:
            wait_for(logits.device)  # passes are timed
        return logits[logits.shape[0] - wanted :]

    @torch.inference_mode()
    def copy(self) -> TransformersState:
        if self._model.own_cache is not None:  # what it keeps beside its layers is its own affair
            return TransformersState(self._model, copy.deepcopy(self._cache), self._length)
        cache = copy.copy(self._cache)
        cache.layers = [_copy(layer) for layer in self._cache.layers]
        return TransformersState(self._model, cache, self._length)

    @property
    def layers(self) -> Sequence[Any]:
        return list(self._cache.layers)

    def _read(self, tokens: Sequence[int], wanted: int) -> torch.Tensor:
        """Logits of at least the last `wanted` tokens, or of all of them if these are fewer."""
        module = self._model.module
        arguments: dict[str, Any] = {self._model.cache_argument: self._cache, "use_cache": True}
        if self._model.keeps_logits:
            arguments["logits_to_keep"] = max(wanted, 1)
        ids = torch.tensor([list(tokens)], device=input_device(module))
        if self._model.needs_positions:
            arguments["position_ids"] = self._length + torch.arange(len(tokens), device=ids.device)[None]
        self._length += len(tokens)
        with without_cudnn():
            logits: torch.Tensor = module(ids, **arguments).logits[0]
        return logits


def _copy(layer: Any) -> Any:
    """A snapshot of a layer's cache: it stays as it is while the layer reads more."""
    if type(layer) not in APPENDING | OVERWRITING:
        return copy.deepcopy(layer)
    twin = copy.copy(layer)
    if type(layer) in OVERWRITING:
        for name, value in vars(layer).items():
            if isinstance(value, dict):
                setattr(twin, name, {key: _clone(part) for key, part in value.items()})
    return twin


def _clone(part: Any) -> Any:
    return part.clone() if isinstance(part, torch.Tensor) else part


def find_recurrent(module: Any, vocab_size: int, name: str) -> Recurrent:
    """Find out how a model appends tokens: its logits are compared with those of one pass over the whole text.

    Raises:
        ModelError: it cannot append tokens, or gives other logits when it does.
    """
    parameters = inspect.signature(module.forward).parameters
    argument = next((argument for argument in CACHE_ARGUMENTS if argument in parameters), None)
    if argument is None:
        raise ModelError(f"model {name} ({type(module).__name__}) takes no cache that Outrider knows: {REMEDY}")
    plain = Recurrent(module, argument, in_pieces=False, keeps_logits="logits_to_keep" in parameters)
    try:
        return _tried(plain, vocab_size, name)
    except ModelError as refusal:
        others = [replace(plain, needs_positions=True)] if "position_ids" in parameters else []
        others += [replace(plain, own_cache=own) for own in _own_cache(module, argument)]
        for other in others:
            with contextlib.suppress(ModelError):
                return _tried(other, vocab_size, name)
        raise refusal from refusal.__cause__


@torch.inference_mode()
def _own_cache(module: Any, argument: str) -> list[type[DynamicCache]]:
    """The class of the cache that the model makes for itself, where that is one of its own."""
    try:
        output = module(torch.tensor([[TEXT_TO_TRY[0]]], device=input_device(module)), use_cache=True)
        made = type(getattr(output, argument, None))
    except FAILURES:
        return []
    return [made] if issubclass(made, DynamicCache) and made is not DynamicCache else []


def _tried(in_steps: Recurrent, vocab_size: int, name: str) -> Recurrent:
    """What is found out when it reads a few tokens.

    Raises:
        ModelError: see find_recurrent.
    """
    module = in_steps.module
    text = [token % vocab_size for token in TEXT_TO_TRY]
    in_pieces = replace(in_steps, in_pieces=True)
    try:
        with torch.inference_mode():
            ids = torch.tensor([text], device=input_device(module))
            expected = module(ids, use_cache=False).logits[0].float()
        scale = float(expected.abs().max())
        error = _error(in_steps, text, IN_STEPS, expected)
        precision = torch.finfo(module.dtype).eps
        tolerance = max(1e-3, 4 * precision) * scale
        if not error <= tolerance or amplifies_rounding(module, text, tolerance):  # also a NaN
            cause = _cause(in_pieces, text, error, tolerance, expected)
            raise ModelError(f"model {name} ({type(module).__name__}) {cause}: {REMEDY}")
        moved = _moved_by_positions(module, ids, expected)
        if moved > tolerance:
            raise ModelError(
                f"model {name} ({type(module).__name__}) gives other logits when it is told its positions, as its "
                f"generate tells them (they are off by {moved:.2g}): {REMEDY}"
            )
        # Token by token the error is rounding; a forgotten text may cause one that is not much larger.
        rounding = max(4 * error, max(1e-5, 2 * precision) * scale)
        state = in_steps.start()
        state.read(text, 0)
    except FAILURES as failure:
        raise ModelError(
            f"model {name} ({type(module).__name__}) cannot be read token by token ({first_line(failure)}): {REMEDY}"
        ) from failure
    try:
        chosen = in_pieces if _error(in_pieces, text, IN_PIECES, expected) <= rounding else in_steps
    except FAILURES:
        chosen = in_steps
    return replace(chosen, bytes_per_token=_bytes_per_token(state.layers))


@torch.inference_mode()
def _moved_by_positions(module: Any, ids: torch.Tensor, expected: torch.Tensor) -> float:
    """By how much logits change when the model is told where its tokens stand.

    Transformers' `generate` tells every model that takes `position_ids`, from 0. Some (RoBERTa) begin at another number
    by themselves, so that their text from `generate` is not what their forward pass says.
    """
    if "position_ids" not in inspect.signature(module.forward).parameters:
        return 0.0
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    with contextlib.suppress(Exception):  # of the model's own code, which `generate` would meet too
        return float((module(ids, position_ids=positions, use_cache=False).logits[0].float() - expected).abs().max())
    return 0.0


def _cause(model: Recurrent, text: Sequence[int], error: float, tolerance: float, expected: torch.Tensor) -> str:
    """Why the logits of a text that is read token by token are off by so much."""
    with contextlib.suppress(Exception):  # of the model's own code
        moved = moved_by_rounding(model.module, text)
        if error <= TIMES_ROUNDING * moved:
            return (
                f"rounds too much to be read token by token: one rounding of its input moves logits by {moved:.2g} "
                "(model.double() rounds less)"
            )
    with contextlib.suppress(Exception):  # of the model's own code
        if _error(model, text, IN_PAIRS, expected) <= tolerance:
            return f"reads a single token otherwise than several at once (its logits are off by {error:.2g})"
    return f"gives other logits when a text is read token by token (they are off by {error:.2g})"


def amplifies_rounding(module: Any, text: Sequence[int], most: float) -> bool:
    """Whether one rounding of the embedded text moves logits by more than `most`.

    Whether such a model looks right on a few tokens is luck, and differs between processors. It is asked in float32
    alone: in 16 bits one rounding is large for any model, and in float64 it is much smaller than what is compared.
    Models that take no embeddings are not asked.
    """
    if module.dtype != torch.float32:
        return False
    with contextlib.suppress(Exception):  # of the model's own code
        return moved_by_rounding(module, text) > most
    return False


@torch.inference_mode()
def moved_by_rounding(module: Any, text: Sequence[int]) -> float:
    """By how much logits change when each number of the embedded text changes by one rounding."""
    ids = torch.tensor([list(text)], device=input_device(module))
    embedded = module.get_input_embeddings()(ids)
    up = torch.arange(embedded.numel(), device=embedded.device).reshape(embedded.shape) % 3 == 0
    one = 1 + torch.finfo(embedded.dtype).eps
    outputs = [
        module(inputs_embeds=each, use_cache=False).logits.float()
        for each in (embedded, torch.where(up, embedded * one, embedded / one))
    ]
    return float((outputs[0] - outputs[1]).abs().max())


def _error(model: Recurrent, text: Sequence[int], courses: Sequence[Sequence[int]], expected: torch.Tensor) -> float:
    """The largest error of a logit when the text is read in pieces of these lengths."""
    found = torch.stack([_read_in(model.start(), text, lengths) for lengths in courses])
    return float((found.float() - expected).abs().max())


def _read_in(state: TransformersState, text: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
    logits = []
    first = 0
    for length in lengths:
        logits.append(state.read(text[first : first + length], length))
        first += length
    return torch.cat(logits)


def _bytes_per_token(layers: Sequence[Any]) -> int:
    held = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    return sum(array.nbytes // array.shape[-2] for array in held if array is not None and array.numel())
