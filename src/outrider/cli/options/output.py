"""What is shown, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from outrider.cli.options.group import option
from outrider.errors import SettingError

OUTPUT = "Output"
LOGPROBS = "--logprobs"
# Flags whose value may be left out, and what they mean then.
VALUES_LEFT_OUT = {LOGPROBS: "0"}
Colour = Literal["auto", "always", "never"]  # when --show uses colours

ShowOption = Annotated[
    bool,
    option(
        "--show",
        None,
        "Colour each token by where it came from: drafted, correction (after a rejection), bonus (after full "
        "acceptance) or plain (nothing was drafted).",
        OUTPUT,
    ),
]
ColourOption = Annotated[
    Colour,
    option(
        "--color",
        "WHEN",
        "Colours of --show: auto, always or never; without, drafted runs stand in brackets.",
        OUTPUT,
    ),
]
JsonOption = Annotated[bool, option("--json", None, "Print one JSON object, for programs.", OUTPUT)]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What `generate` shows of a text."""

    show: ShowOption = False
    color: ColourOption = "auto"
    compare: Annotated[bool, option("--compare", None, "Also decode plainly, and say the ratio.", OUTPUT)] = False
    logprobs: Annotated[
        int | None,
        option(
            LOGPROBS,
            "[N]",
            "With --json or --input: log probabilities; with N also those of the N most probable tokens in each place.",
            OUTPUT,
        ),
    ] = None
    trace: Annotated[
        Path | None,
        option("--trace", "FILE", "Write what happens in every round; outrider trace shows and draws it.", OUTPUT),
    ] = None
    json: JsonOption = False

    def check(self) -> None:
        """Raises SettingError where a flag would have no effect."""
        if self.logprobs is not None and not self.json:
            raise SettingError("--logprobs are part of what --json prints: give --json as well")
        if self.show and self.json:
            raise SettingError("--show colours text and --json prints none: leave one of them out")

    @property
    def asked_logprobs(self) -> bool | int:
        """As a Request says it."""
        if self.logprobs is None:
            return False
        return self.logprobs or True


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How a table is printed."""

    json: JsonOption = False
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False
