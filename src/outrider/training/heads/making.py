"""From a target and its texts to a trained head in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from outrider.drafters.heads.layout import write_head
from outrider.drafters.heads.opening import tensor_of
from outrider.errors import InputError, ModelError
from outrider.runtimes.base import Embeds, Model
from outrider.runtimes.host_memory import free_host_bytes
from outrider.training.heads.batch import Student
from outrider.training.heads.checkpoint import Checkpoint
from outrider.training.heads.corpus import Lessons, Reader, frequent_tokens
from outrider.training.heads.rollout import HeadStudent
from outrider.training.heads.start import config_for, new_head
from outrider.training.heads.trainer import Measurement, Progress, Trainer, TrainingSettings
from outrider.training.library import FEWEST, Library
from outrider.training.shards import Text

LONGEST = 512  # tokens of a text
WIDTH, RATE, FASTEST = 576, 1e-3, 1e-2  # the rate of learning at this hidden size, and the highest
STEPS_IN_AN_EPOCH = 64
SMALLEST_BATCH, LARGEST_BATCH = 256, 2048  # tokens
ROOM, SHARE = 4 << 30, 0.25  # bytes of hidden states that are kept: the most, and of the memory that is free
MEASURING = 0.25  # of them, for texts held out
FEWEST_MEASURED, SECONDS_PER_MEASURED = 12, 15.0  # texts held out that measure: short runs measure with few
LARGEST_VOCABULARY = 8192  # tokens that a head can draft, where nothing is said
BLOCK = 64  # sizes are multiples of it
MINUTES_FOR_WIDTH = 20.0  # of training, from which the MLP is twice as wide as the head


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a head; None follows data and time.

    Attributes:
        draft_vocab: how many tokens it can draft.
        inner: the width of its MLP.
    """

    draft_vocab: int | None = None
    inner: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a training.

    Attributes:
        curve: the measurements, the first one before training.
        parameters: of the student.
        vocabulary: how many tokens it can draft.
        tokens: that it was trained on.
    """

    curve: list[Measurement]
    parameters: int
    vocabulary: int
    tokens: int


def require_trainable(target: Model) -> None:
    """Raises ModelError where the target does not show what a head reads."""
    if target.traits.hidden_size is None or not isinstance(target, Embeds):
        raise ModelError(f"model {target.name} gives no hidden states: open it with backend torch or native")


def require_enough(library: Library) -> None:
    """Raises InputError where there are too few texts to learn from and to measure with."""
    if not library.suffices:
        raise InputError(
            f"{len(library)} texts, {len(library.held_out)} of them held out, are too few to train on: at least "
            f"{FEWEST} and one held out; give --minutes more, or --data"
        )


def batch_for(texts: Sequence[Text]) -> int:
    """Tokens of a batch: little data makes small ones."""
    tokens = sum(len(text.tokens) for text in texts)
    return min(max(tokens // STEPS_IN_AN_EPOCH, SMALLEST_BATCH), LARGEST_BATCH)


def rate_for(width: int) -> float:
    """Small students learn faster."""
    return min(RATE * WIDTH / width, FASTEST)


def make_head(
    target: Model,
    library: Library,
    opening: Sequence[int],
    folder: Path,
    settings: TrainingSettings,
    sizes: Sizes,
    found: Checkpoint | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Made:
    """Train a head and write it. What is learned is kept in a checkpoint, from which a later run goes on.

    Args:
        library: texts of the target; what comes into its folders meanwhile is taken in.
        opening: of a conversation, as in `Lessons`.
        sizes: of a new head; a checkpoint brings its own.
        found: where to go on.
        tell: called after each step.

    Raises:
        InputError: there are too few texts, or the checkpoint is of another head.
        ModelError: as `require_trainable`.
        OSError: a file cannot be written.
    """
    require_trainable(target)
    require_enough(library)
    traits = target.traits
    assert isinstance(target, Embeds)
    assert traits.hidden_size is not None
    ids, inner = _made_of(found) if found else _sized(library, traits.vocab_size, traits.hidden_size, sizes, settings)
    config = config_for(traits.hidden_size, traits.layers, traits.vocab_size, len(ids), traits.context_length, inner)
    embedding = tensor_of(target.embedding())
    head = new_head(config, embedding, ids, settings.seed).to(embedding.device)
    reader = Reader(target, ids, config.layers, min(LONGEST, traits.context_length))
    made = {"ids": ids, "inner": inner}
    taught = teach(HeadStudent(head, embedding), reader, library, opening, folder, settings, made, found, tell)
    write_head(folder, head, ids, {"name_or_path": target.name, "architectures": []}, torch.bfloat16)
    return taught


def teach(
    student: Student,
    reader: Reader,
    library: Library,
    opening: Sequence[int],
    folder: Path,
    settings: TrainingSettings,
    made: dict[str, object],
    found: Checkpoint | None,
    tell: Callable[[Progress], None],
) -> Made:
    """Train a student on the texts of a library; arguments as of `make_head` and `Trainer`."""
    room = min(ROOM, int(SHARE * (free_host_bytes() or ROOM)))
    measured = max(int(settings.seconds / SECONDS_PER_MEASURED), FEWEST_MEASURED)
    held_out = Lessons(library.held_out[:measured], reader, int(MEASURING * room))
    learned = Lessons(library.learned, reader, room - int(MEASURING * room), opening)

    def further() -> list[Text]:
        library.refresh()
        return library.learned[len(learned) :]

    trainer = Trainer(student, learned, held_out, settings, folder, made=made, further=further)
    if found is not None:
        trainer.resume(found)
    curve = trainer.run(tell)
    parameters = sum(parameter.numel() for parameter in student.module.parameters())
    return Made(curve, parameters, reader.draft_vocab, learned.tokens)


def _made_of(found: Checkpoint) -> tuple[torch.Tensor, int]:
    try:
        return found.made["ids"], found.made["inner"]
    except KeyError as error:
        raise InputError("the checkpoint is not of a head: delete it, or choose another folder") from error


def _sized(
    library: Library, vocab_size: int, width: int, sizes: Sizes, settings: TrainingSettings
) -> tuple[torch.Tensor, int]:
    """The tokens that a new head can draft, and the width of its MLP."""
    texts = library.learned
    count = sizes.draft_vocab
    if count is None:
        seen = {token for text in texts for token in text.tokens[text.prompt :]}
        count = min(BLOCK * -(-len(seen) // BLOCK), LARGEST_VOCABULARY)
    inner = sizes.inner or (2 if settings.seconds >= 60 * MINUTES_FOR_WIDTH else 1) * width
    return frequent_tokens(texts, min(count, vocab_size), vocab_size), inner
