"""What a training that was ended early goes on from: one file, whole or not there."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from outrider.errors import InputError, first_line
from outrider.runtimes.files.whole_file import whole_file

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training at one moment.

    Attributes:
        weights, best: of the student, as they are and as they were worth most.
        optimizer: its state.
        progress: numbers.
        made: what the student was made of, so that it can be made once more.
    """

    weights: Mapping[str, torch.Tensor]
    best: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    progress: Mapping[str, Any]
    made: Mapping[str, Any]

    def write(self, file: Path) -> None:
        """Raises OSError where it cannot be written."""
        held = io.BytesIO()
        torch.save(
            {
                "weights": self.weights,
                "best": self.best,
                "optimizer": self.optimizer,
                "progress": self.progress,
                "made": self.made,
            },
            held,
        )
        with whole_file(file) as stream:
            stream.write(held.getvalue())


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The one in a folder, None where there is none.

    Raises:
        InputError: it is damaged.
    """
    file = folder / CHECKPOINT
    if not file.is_file():
        return None
    try:
        return Checkpoint(**torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever a damaged file makes zip, pickle and PyTorch say
        raise InputError(f"checkpoint {file} is damaged ({first_line(error)}): delete it") from error
