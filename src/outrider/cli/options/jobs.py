"""Many prompts: where they come from, and where results go to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from outrider.cli.options.files import STANDARD_INPUT
from outrider.cli.options.group import option
from outrider.errors import SettingError

MANY = "Many prompts"
DEFAULT_ROWS = 8


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Where many prompts come from and results go to. Without --input there is one prompt only."""

    input: Annotated[
        Path | None,
        option(
            "--input",
            "FILE",
            'Decode many prompts: a JSON object a line with "prompt", "messages", "tokens" or "turns"; it may have an '
            '"id", and its own "max_tokens", "temperature", "seed" and so on.',
            MANY,
        ),
    ] = None
    output: Annotated[
        Path | None,
        option(
            "--output",
            "FILE",
            "A JSON line per prompt, written when it is finished. A run that was stopped goes on where it was if the "
            "same command is given again. - is standard output.",
            MANY,
        ),
    ] = None
    max_rows: Annotated[
        int | None,
        option("--max-rows", "N", f"How many prompts to decode at once. Default: {DEFAULT_ROWS}.", MANY),
    ] = None
    workers: Annotated[
        int | None,
        option(
            "--workers",
            "N",
            "Decode in so many processes of Ray, each with models of its own. Every one decodes --max-rows prompts at "
            "once; what a lost one was at is decoded by another.",
            MANY,
        ),
    ] = None
    address: Annotated[
        str | None,
        option(
            "--address",
            "ADDRESS",
            "The Ray cluster that --workers are part of; auto finds the one of this machine. Default: this machine "
            "alone.",
            MANY,
        ),
    ] = None
    overwrite: Annotated[bool, option("--overwrite", None, "Forget the results that are in --output.", MANY)] = False

    @property
    def to_standard_output(self) -> bool:
        """Whether results are printed."""
        return str(self.output) == STANDARD_INPUT

    @property
    def rows(self) -> int:
        """How many prompts one process decodes at once."""
        return self.max_rows or DEFAULT_ROWS

    def check(self) -> None:
        """Refuse flags that contradict each other, or would have no effect.

        Raises:
            SettingError: they do.
        """
        if self.input is None:
            given = {
                "--output": self.output is not None,
                "--max-rows": self.max_rows is not None,
                "--workers": self.workers is not None,
                "--address": self.address is not None,
                "--overwrite": self.overwrite,
            }
            for flag in (flag for flag, is_given in given.items() if is_given):
                raise SettingError(f"{flag} is for many prompts: give --input FILE as well, or leave it out")
            return
        if self.output is None:
            raise SettingError("--input needs a place for the results: give --output FILE, or --output - to print them")
        if self.max_rows is not None and self.max_rows < 1:
            raise SettingError(f"--max-rows is {self.max_rows}: it must be at least 1")
        if self.workers is not None and self.workers < 1:
            raise SettingError(f"--workers is {self.workers}: it must be at least 1")
        if self.address is not None and self.workers is None:
            raise SettingError("--address is where --workers are: give --workers N as well, or leave it out")
        if self.to_standard_output:
            if self.overwrite:
                raise SettingError("--overwrite is for a file and --output is -: leave one of them out")
        elif self.output.exists() and self.input.exists() and self.output.samefile(self.input):
            raise SettingError(f"--input and --output are the same file, {self.input}: give another --output")

    def refuse_beside(self, given: Mapping[str, bool]) -> None:
        """Refuse flags that are for a single prompt.

        Args:
            given: by flag, whether it is.

        Raises:
            SettingError: one is.
        """
        for flag, is_given in given.items():
            if is_given:
                raise SettingError(f"{flag} is for a single prompt and --input is given: leave one of them out")

    def refuse_beside_workers(self, given: Mapping[str, bool]) -> None:
        """Refuse flags that one process alone can obey.

        Args:
            given: by flag, whether it is.

        Raises:
            SettingError: one is, and there are workers.
        """
        for flag, is_given in given.items():
            if is_given and self.workers is not None:
                raise SettingError(f"{flag} is for one process and --workers is {self.workers}: leave one of them out")
