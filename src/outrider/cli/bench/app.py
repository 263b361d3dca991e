"""The commands of `outrider bench` together."""

from __future__ import annotations

from typing import Annotated

import typer

from outrider.errors import SettingError


def _refuse(given: object) -> None:
    if given:
        raise SettingError(
            "bench has commands of its own: outrider bench questions FILE compares systems, outrider bench rows FILE "
            "several prompts at once with one after the other"
        )


def bench(
    # Flags of version 0.1, each refused with the name of what replaces it.
    questions: Annotated[str | None, typer.Option("--questions", hidden=True, is_eager=True, callback=_refuse)] = None,
) -> None:
    """Measure systems of Outrider on prompts of your own, interleaved in one run."""
