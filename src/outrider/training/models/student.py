"""A small language model of the kind llama that learns what a target says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from outrider.runtimes.base import Model
from outrider.training.heads.batch import Batch, Step

SMALLEST, BLOCK = 32, 32  # hidden sizes: the least, and what they are multiples of
UNKNOWN = 256  # the hidden size where the target does not tell its own
SHARE = 0.5  # of the target's hidden size
MLP = 2  # hidden sizes
HEAD_SIZE = 64


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Of a small model; None follows the target and the time.

    Attributes:
        hidden: the width of its states.
        layers: how many.
        inner: the width of the MLPs.
    """

    hidden: int | None = None
    layers: int | None = None
    inner: int | None = None

    def settled(self, target: Model, layers: int) -> ModelSizes:
        """With what was left open."""
        width = target.traits.hidden_size
        hidden = self.hidden or (UNKNOWN if width is None else max(BLOCK * round(SHARE * width / BLOCK), SMALLEST))
        return ModelSizes(hidden, self.layers or layers, self.inner or MLP * hidden)


class ModelStudent:
    """A LlamaForCausalLM of transformers, whose input and output share an embedding."""

    def __init__(self, target: Model, sizes: ModelSizes, seed: int) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        hidden, traits = sizes.hidden, target.traits
        assert hidden is not None
        head_size = next(size for size in (HEAD_SIZE, 32, 16, 8, 4, 2, 1) if hidden % size == 0)
        heads = hidden // head_size
        stop = sorted(traits.stop_token_ids)
        torch.manual_seed(seed)
        self.module: Any = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=traits.vocab_size,
                hidden_size=hidden,
                intermediate_size=sizes.inner,
                num_hidden_layers=sizes.layers,
                num_attention_heads=heads,
                num_key_value_heads=heads // 3 if heads % 3 == 0 else heads,
                head_dim=head_size,
                max_position_embeddings=traits.context_length,
                rms_norm_eps=1e-5,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=stop or None,
                use_cache=False,
            )
        )

    def steps(self, batch: Batch, depth: int) -> Iterator[Step]:
        """One step: whatever it drafts, it reads its own words as it reads the target's."""
        # Texts are padded at the end, and attention is causal: no mask is needed.
        states = self.module.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
        counts = batch.counts
        yield Step(
            self.module.lm_head(states[counts]),
            batch.likely[counts].long(),
            batch.chances[counts].float(),
            batch.best[counts].long(),
        )


@torch.no_grad()
def begin_with(student: ModelStudent, embedding: torch.Tensor) -> None:
    """Begin with the target's embedding, or with its principal components where the student is narrower.

    Args:
        embedding: of the target, [vocabulary, hidden size].
    """
    own = student.module.model.embed_tokens.weight
    words = embedding.float().to(own.device)[: own.shape[0]]
    if words.shape[1] < own.shape[1]:
        return
    if words.shape[1] > own.shape[1]:
        _, axes = torch.linalg.eigh(words.T @ words)
        words = words @ axes[:, -own.shape[1] :]
    own.copy_(words * (own.std() / words.std().clamp_min(1e-12)))
