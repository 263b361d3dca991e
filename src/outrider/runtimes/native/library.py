"""The compiled library, and what it runs on here."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from outrider.errors import ModelError, SettingError

MODULE = "outrider_native"
MISSING = "the native runtime needs its compiled library: pip install ./native in Outrider's repository"
INTERFACE = 12  # of the library that this version calls to run models
DRAFTING = 3  # and to look drafts up
SET_VARIABLE = "OUTRIDER_NATIVE_ISA"  # names an instruction set, for tests


def is_installed() -> bool:
    return importlib.util.find_spec(MODULE) is not None


def core() -> Any:
    """The compiled module.

    Raises:
        ModelError: it is not installed, or does not run here.
    """
    try:
        import outrider_native
    except ImportError as error:
        raise ModelError(f"{MISSING} ({error})") from error
    found = vars(outrider_native).get("INTERFACE", 1)
    if found != INTERFACE:
        raise ModelError(
            f"the compiled library outrider_native has interface {found} and this Outrider calls {INTERFACE}: install "
            "both from one place, pip install ./native in Outrider's repository"
        )
    return outrider_native


def misfit() -> str | None:
    """Why the library that is installed is of no use; None where it is, or where none is installed."""
    try:
        core()
    except ModelError as error:
        return str(error) if is_installed() else None
    return None


def drafting() -> Any | None:
    """The compiled module where it looks drafts up as this version asks it to; else None, and Python does the same."""
    try:
        import outrider_native
    except ImportError:
        return None
    return outrider_native if vars(outrider_native).get("DRAFTING") == DRAFTING else None


def instruction_set() -> str:
    """The fastest that this processor runs, or the one that $OUTRIDER_NATIVE_ISA names.

    Raises:
        SettingError: this processor does not run it.
    """
    there: list[str] = core().instruction_sets()
    chosen = os.environ.get(SET_VARIABLE) or there[0]
    if chosen not in there:
        raise SettingError(f"{SET_VARIABLE} is {chosen}: this processor runs {', '.join(there)}")
    return chosen


def available_threads() -> int:
    """How many threads this process may run at once."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
