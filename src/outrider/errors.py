"""The errors that Outrider raises on purpose: one line each, naming the value, the limit and the remedy."""

from __future__ import annotations

from outrider.pictures import pictures

LONGEST_MESSAGE = 1000  # characters
LONGEST_VALUE = 60  # characters of a value in a message


class OutriderError(Exception):
    """Base of every error raised on purpose. The command line prints its one line and exits with status 2.

    Messages quote values and files of others: whatever these hold, a message stays one line that cannot steer a
    terminal.
    """

    def __init__(self, message: str = "") -> None:
        line = pictures(" ".join(message.splitlines()))
        super().__init__(line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - 3]}...")


class SettingError(OutriderError, ValueError):
    """A setting is out of its range, unknown, or cannot be exact in combination with another."""


class InputError(OutriderError, ValueError):
    """A prompt or an array handed in cannot be used: empty, too long, of the wrong shape, not a number."""


class TooLongError(InputError):
    """A prompt leaves no room for output in the model's context."""


class ModelError(OutriderError):
    """A model cannot be found, cannot be used for speculation, or produced numbers that are not numbers."""


class VocabularyError(ModelError):
    """Two models that must share a vocabulary do not."""


class BatchError(ModelError):
    """Some texts of a batch failed.

    Attributes:
        outputs: the tokens of every text, those of the failed ones as far as they got.
    """

    def __init__(self, message: str, outputs: list[list[int]]) -> None:
        super().__init__(message)
        self.outputs = outputs

    def __reduce__(self) -> tuple[type[BatchError], tuple[str, list[list[int]]]]:
        return type(self), (str(self), self.outputs)  # pickle would call the class with the message alone


class QueueFullError(OutriderError):
    """An engine has as many requests waiting as it may have: try again later."""


def shown(value: object) -> str:
    """A value as messages quote it: in one line, cut where it is long; its type where it cannot be written."""
    try:
        line = " ".join(repr(value).split())
    except Exception:  # of the value's own class, or of nesting without end
        return f"a {type(value).__name__} that cannot be shown"
    return line if len(line) <= LONGEST_VALUE else f"{line[: LONGEST_VALUE - 3]}..."


def first_line(error: BaseException) -> str:
    """What a foreign error says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
