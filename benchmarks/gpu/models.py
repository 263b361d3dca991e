"""Models from configurations, with random weights, and what one says by itself."""

from __future__ import annotations

import copy
import importlib.util
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.gpu import bare
from benchmarks.gpu.run import Run
from outrider import Model, SamplingParams
from outrider.runtimes.base import Pass, Session
from outrider.runtimes.torch.cuda.model import GraphedLlama

TRANSFORMERS = importlib.util.find_spec("transformers") is not None
GREEDY = SamplingParams(temperature=0, seed=0)


@dataclass(frozen=True)
class Shape:
    """The size of a Llama-like model."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    intermediate: int

    @property
    def parameters(self) -> int:
        """Without the embedding, of which a pass reads a few rows."""
        attention = self.hidden * (2 * self.hidden + 2 * self.hidden * self.key_heads // self.heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + self.hidden * self.vocabulary


SHAPES = {
    "tiny": Shape(512, 64, 2, 4, 2, 96),
    "135m": Shape(49_152, 576, 30, 9, 3, 1536),  # SmolLM2-135M
    "1b": Shape(128_256, 2048, 16, 32, 8, 8192),  # Llama-3.2-1B
    "8b": Shape(128_256, 4096, 32, 32, 8, 14_336),  # Llama-3.1-8B
}
CHECKED = Shape(1000, 256, 4, 8, 2, 512)  # small enough to be checked in many ways


def make(shape: Shape, device: torch.device, dtype: torch.dtype, seed: int = 0, spread: float = 0.02) -> Any:
    """A Llama model of transformers with normally distributed weights, made on the device itself; without transformers
    one of PyTorch's modules."""
    settings: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "max_position_embeddings": 16_384,
        "initializer_range": spread,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    before = torch.get_default_dtype()
    torch.manual_seed(seed)
    try:
        torch.set_default_dtype(dtype)
        with torch.device(device):
            return _of_transformers(settings) if TRANSFORMERS else bare.LlamaForCausalLM(settings).eval()
    finally:
        torch.set_default_dtype(before)


def _of_transformers(settings: dict[str, Any]) -> Any:
    import transformers

    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)).eval()


class Language:
    """Texts in which every token has one successor, and models that know it, or most of it.

    The successors make one cycle through the vocabulary, so that no text repeats itself unless its prompt holds what
    comes. A model that says the wrong successor after a share of the tokens is a draft model whose tokens are accepted
    with a chance that is known.
    """

    def __init__(self, vocabulary: int, seed: int = 0) -> None:
        self.cycle = np.random.default_rng(seed).permutation(vocabulary)
        self.successor = np.empty(vocabulary, dtype=np.int64)
        self.successor[self.cycle] = np.roll(self.cycle, -1)

    @torch.no_grad()
    def teach(self, model: Any, right: float = 1.0, seed: int = 1) -> Any:
        """Plant the successors into a model: layers add little to the embedding, and the head reads it."""
        generator = np.random.default_rng(seed)
        successor = self.successor.copy()
        wrong = np.flatnonzero(generator.random(len(successor)) >= right)
        successor[wrong] = successor[np.roll(wrong, 1)]
        before = np.empty_like(successor)
        before[successor] = np.arange(len(successor))
        embedding = model.model.embed_tokens.weight
        embedding.normal_(0, 1)
        model.lm_head.weight.copy_(embedding[torch.from_numpy(before).to(embedding.device)])
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.02 / len(model.model.layers) ** 0.5)
            layer.mlp.down_proj.weight.mul_(0.02 / len(model.model.layers) ** 0.5)
        return model

    def prompt(self, length: int, start: int = 0, seed: int = 2, wrong: float = 0.1) -> tuple[int, ...]:
        """What the text from `start` on will say, a share of it spoilt, and then its first token."""
        generator = np.random.default_rng(seed)
        tokens = self.cycle[(start + np.arange(length - 1)) % len(self.cycle)].copy()
        spoilt = generator.random(len(tokens)) < wrong
        tokens[spoilt] = generator.integers(0, len(self.cycle), int(spoilt.sum()))
        return (*tokens.tolist(), int(self.cycle[start % len(self.cycle)]))


def opened(run: Run, module: Any, apart: bool = False) -> Model:
    """The module as `outrider.load` opens it on a GPU.

    Args:
        apart: leave the module as it is; otherwise its weights are taken.
    """
    return GraphedLlama.of(copy.deepcopy(module) if apart else module, device=run.device)


def small_draft(run: Run, language: Language, right: float) -> Model:
    """A draft model of SmolLM2's size."""
    small = replace(SHAPES["tiny" if run.tiny else "135m"], vocabulary=len(language.cycle))
    return opened(run, language.teach(make(small, run.device, torch.bfloat16), right))


def some_text(vocabulary: int, length: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(vocabulary), k=length)


class Truth:
    """What a module of transformers says of a whole text with its own attention and no cache."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.vocabulary = int(module.config.vocab_size)

    @torch.inference_mode()
    def __call__(self, text: Sequence[int], count: int = 1) -> torch.Tensor:
        ids = torch.tensor([list(text)], device=self.module.device)
        logits: torch.Tensor = self.module(input_ids=ids, use_cache=False).logits[0, -count:]
        return logits.float()


@torch.inference_mode()
def generate(module: Any, prompts: Sequence[Sequence[int]], length: int, **settings: Any) -> list[list[int]]:
    """transformers' own greedy generate; without transformers the text of its numbers."""
    ids = torch.tensor([list(prompt) for prompt in prompts], device=module.device)
    output = module.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=length,
        eos_token_id=None,
        pad_token_id=0,
        **settings,
    )
    tokens: list[list[int]] = output[:, ids.shape[1] :].tolist()
    return tokens


def extend(
    session: Session,
    rows: Sequence[int],
    tokens: Sequence[Sequence[int]],
    parents: Sequence[Sequence[int] | None] | None = None,
    wanted: Sequence[int] | None = None,
) -> torch.Tensor:
    """Logits [sum of wanted, vocabulary] of one pass, on the device and perhaps not there yet."""
    logits: torch.Tensor = session.extend(Pass(rows, tokens, parents, wanted)).logits
    return logits


def feed(session: Session, row: int, tokens: Sequence[int]) -> None:
    """Make tokens permanent, without their logits."""
    for first in range(0, len(tokens), 512):
        piece = tokens[first : first + 512]
        extend(session, [row], [piece], wanted=[0])
        session.keep(row, range(len(piece)))
