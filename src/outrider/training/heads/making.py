"""From a target and its texts to a trained head in a folder."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from outrider.drafters.heads.layout import write_head
from outrider.drafters.heads.opening import tensor_of
from outrider.errors import InputError, ModelError
from outrider.runtimes.base import Embeds, Model
from outrider.training.heads.corpus import Lessons, Reader, frequent_tokens
from outrider.training.heads.start import config_for, new_head
from outrider.training.heads.trainer import CHECKPOINT, Measurement, Progress, Trainer, TrainingSettings
from outrider.training.shards import Text

HELD_OUT = 0.05  # of the texts
FEWEST = 8  # texts
MOST_HELD_OUT = 64
LONGEST = 512  # tokens of a text
WIDTH, RATE, FASTEST = 576, 1e-3, 1e-2  # the rate of learning at this hidden size, and the highest
STEPS_IN_AN_EPOCH = 64
SMALLEST_BATCH, LARGEST_BATCH = 256, 2048  # tokens
ROOM = 4 << 30  # bytes of hidden states that are kept; others are made once more in each epoch


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a training.

    Attributes:
        curve: the measurements, the first one before training.
        parameters: of the head.
        vocabulary: how many tokens it can draft.
        tokens: of the answers that it was trained on.
    """

    curve: list[Measurement]
    parameters: int
    vocabulary: int
    tokens: int


def require_trainable(target: Model) -> None:
    """Raises ModelError where the target does not show what a head reads."""
    if target.traits.hidden_size is None or not isinstance(target, Embeds):
        raise ModelError(f"model {target.name} gives no hidden states: open it with backend torch or native")


def settings_for(
    target: Model, texts: Sequence[Text], seconds: float, objective: str = "kl", seed: int = 0
) -> TrainingSettings:
    """Settings by the size of target and data: small heads learn faster, and little data makes small batches."""
    tokens = sum(len(text.tokens) for text in texts)
    width = target.traits.hidden_size or WIDTH
    return TrainingSettings(
        objective=objective,
        rate=min(RATE * WIDTH / width, FASTEST),
        tokens=min(max(tokens // STEPS_IN_AN_EPOCH, SMALLEST_BATCH), LARGEST_BATCH),
        seconds=seconds,
        measured=max(seconds / 20, 1.0),
        seed=seed,
    )


def make_head(
    target: Model,
    texts: Sequence[Text],
    folder: Path,
    settings: TrainingSettings,
    vocabulary: int,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Made:
    """Train a head and write it. What is learned is kept in a checkpoint: a run that was killed goes on from it.

    Args:
        texts: with answers of the target.
        vocabulary: how many tokens the head can draft, at most.
        tell: called after each step.

    Raises:
        InputError: there are too few texts.
        ModelError: as `require_trainable`.
        OSError: a file cannot be written.
    """
    require_trainable(target)
    if len(texts) < FEWEST:
        raise InputError(f"{len(texts)} texts are too few to train a head: at least {FEWEST}; give --minutes more")
    traits = target.traits
    assert isinstance(target, Embeds)
    assert traits.hidden_size is not None
    shuffled = list(texts)
    random.Random(settings.seed).shuffle(shuffled)
    measured = min(max(round(HELD_OUT * len(texts)), FEWEST // 4), MOST_HELD_OUT)
    embedding = tensor_of(target.embedding())
    count = min(vocabulary, traits.vocab_size)
    ids = frequent_tokens(shuffled, count, traits.vocab_size)
    config = config_for(traits.hidden_size, traits.layers, traits.vocab_size, count, traits.context_length)
    reader = Reader(target, ids, config.layers, min(LONGEST, traits.context_length))
    head = new_head(config, embedding, ids, settings.seed).to(embedding.device)
    learned, held_out = Lessons(shuffled[measured:], reader, ROOM), Lessons(shuffled[:measured], reader, ROOM)
    curve = Trainer(head, embedding, learned, held_out, settings, folder).run(tell)
    write_head(folder, head, ids, {"name_or_path": target.name, "architectures": []}, torch.bfloat16)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    tokens = sum(len(text.tokens) - text.prompt for text in learned.texts)
    return Made(curve, sum(parameter.numel() for parameter in head.parameters()), count, tokens)
