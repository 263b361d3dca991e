"""What is trained, and what for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from outrider.cli.options.group import option
from outrider.errors import SettingError
from outrider.runtimes.base import Model

if TYPE_CHECKING:
    from outrider.training.heads.making import Sizes
    from outrider.training.heads.trainer import TrainingSettings
    from outrider.training.models.student import ModelSizes

STUDENT = "What is trained"
DRAFTERS = ("head", "model")
OBJECTIVES = ("kl", "accept", "hybrid")
LOGITS = 50_000_000  # of a batch of a model, at most: they are in memory several times
MEASUREMENTS = 20
BETWEEN_MEASUREMENTS = (1.0, 90.0)  # seconds, at least and at most


@dataclass(frozen=True, slots=True)
class StudentOptions:
    """A drafter to be. Sizes that are None follow the target, the data and the time."""

    drafter: Annotated[
        str,
        option(
            "--drafter",
            "NAME",
            "head: an EAGLE-3 head, which reads the target's states. model: a small language model, for every runtime.",
            STUDENT,
        ),
    ] = "head"
    objective: Annotated[str, option("--objective", "NAME", f"{', '.join(OBJECTIVES)}.", STUDENT)] = "kl"
    draft_vocab_size: Annotated[
        int | None,
        option(
            "--draft-vocab-size --vocabulary",
            "N",
            "The most tokens that a head can draft. Default: those of the answers, up to 8192.",
            STUDENT,
        ),
    ] = None
    intermediate_size: Annotated[
        int | None, option("--intermediate-size", "N", "The width of the MLP. Default: by --minutes.", STUDENT)
    ] = None
    hidden_size: Annotated[
        int | None, option("--hidden-size", "N", "The width of a model. Default: half the target's.", STUDENT)
    ] = None
    num_layers: Annotated[
        int | None, option("--num-layers", "N", "The layers of a model. Default: by --minutes.", STUDENT)
    ] = None
    ttt_steps: Annotated[int, option("--ttt-steps", "N", "Draft tokens that a head is trained for.", STUDENT)] = 4
    lr: Annotated[
        float | None, option("--lr", "X", "The rate of learning, at its highest. Default: by the width.", STUDENT)
    ] = None
    gguf: Annotated[
        Path | None,
        option(
            "--gguf",
            "FILE",
            "A GGUF file of the target, whose tokenizer goes into that of a model. Default: the target's own, if it is "
            "one.",
            STUDENT,
        ),
    ] = None

    def check(self) -> None:
        """Raises SettingError where a value is out of its range, or of the other drafter."""
        if self.drafter not in DRAFTERS:
            raise SettingError(f"--drafter is {self.drafter!r}: choose {' or '.join(DRAFTERS)}")
        if self.objective not in OBJECTIVES:
            raise SettingError(f"--objective is {self.objective!r}: choose one of {', '.join(OBJECTIVES)}")
        for flag, value in self._given():
            if isinstance(value, int | float) and not value > 0:
                raise SettingError(f"{flag} is {value}: it must be above 0")
        of_other = ("--hidden-size", "--num-layers", "--gguf") if self.drafter == "head" else ("--draft-vocab-size",)
        wrong = next((flag for flag, _ in self._given() if flag in of_other), None)
        if wrong is not None:
            raise SettingError(f"{wrong} is not for --drafter {self.drafter}: leave one of them out")

    @property
    def flags(self) -> list[str]:
        """What was asked for beyond the defaults, as on the command line."""
        chosen = [] if self.drafter == "head" else ["--drafter", self.drafter]
        chosen += [] if self.objective == "kl" else ["--objective", self.objective]
        return chosen + [word for flag, value in self._given() for word in (flag, str(value))]

    @property
    def head_sizes(self) -> Sizes:
        from outrider.training.heads.making import Sizes

        return Sizes(self.draft_vocab_size, self.intermediate_size)

    @property
    def model_sizes(self) -> ModelSizes:
        from outrider.training.models.student import ModelSizes

        return ModelSizes(self.hidden_size, self.num_layers, self.intermediate_size)

    def settings(self, target: Model, batch: int, seconds: float, seed: int) -> TrainingSettings:
        """Settings of a training.

        Args:
            batch: tokens.
            seconds: how long it may take, earlier runs included.
        """
        from outrider.training.heads.making import SMALLEST_BATCH, WIDTH, rate_for
        from outrider.training.heads.trainer import TrainingSettings

        width = target.traits.hidden_size or WIDTH
        if self.drafter == "model":
            width = self.model_sizes.settled(target, 1).hidden or width
            batch = max(min(batch, LOGITS // target.traits.vocab_size), SMALLEST_BATCH)
        least, most = BETWEEN_MEASUREMENTS
        return TrainingSettings(
            objective=self.objective,
            depth=self.ttt_steps if self.drafter == "head" else 1,
            rate=self.lr or rate_for(width),
            tokens=batch,
            seconds=seconds,
            measured=min(max(seconds / MEASUREMENTS, least), most),
            seed=seed,
        )

    def _given(self) -> Iterator[tuple[str, Any]]:
        values = {
            "--draft-vocab-size": self.draft_vocab_size,
            "--intermediate-size": self.intermediate_size,
            "--hidden-size": self.hidden_size,
            "--num-layers": self.num_layers,
            "--ttt-steps": None if self.ttt_steps == StudentOptions().ttt_steps else self.ttt_steps,
            "--lr": self.lr,
            "--gguf": self.gguf,
        }
        return ((flag, value) for flag, value in values.items() if value is not None)
