"""Task 3: how the lookahead of AdaptiveSpeculator moves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from outrider.check.learner.child.channel import Channel, Misfit, end_copies
from outrider.check.learner.child.libraries import Library, as_lists
from outrider.check.learner.child.loading import Found, settings_of

STARTS = (4, 2, 6)
LARGE = 10**9  # lookaheads beyond are told as this
Look = Callable[[Any, Any], Any]  # (speculator, what update_lookahead returned) -> lookahead


def courses() -> dict[str, list[float]]:
    """Acceptance rates of rounds that follow one another."""
    mixed = np.random.default_rng(0).integers(0, 5, 300) / 4
    return {
        "ones": [1.0] * 300,
        "zeros": [0.0] * 300,
        "zeros then ones": [0.0] * 200 + [1.0] * 200,
        "ones then zeros": [1.0] * 200 + [0.0] * 200,
        "mixed": mixed.tolist(),
    }


def observe_adaptive(channel: Channel, found: Found, arrays: Library) -> None:
    """Tell where it starts, and the lookahead after each update."""
    with channel.guarded(found.path):
        channel.stage("AdaptiveSpeculator is made")
        made = found.names["AdaptiveSpeculator"]
        settings = settings_of(made, 1)
        channel.stage("update_lookahead is called")
        look = _look(made, settings)
        starts = {start: _number(look(made(start, **settings), None)) for start in STARTS} if look else {}
        channel.send("starts", starts=starts)
        for name, rates in courses().items():
            channel.send("course", name=name, rates=rates, lookaheads=_course(made, settings, look, rates))


def _course(made: Any, settings: dict[str, Any], look: Look | None, rates: list[float]) -> list[Any]:
    speculator = made(STARTS[0], **settings)
    seen = []
    for rate in rates:
        returned = speculator.update_lookahead(rate)
        end_copies()
        seen.append(_number(look(speculator, returned) if look else returned))
    return seen


def _look(made: Any, settings: dict[str, Any]) -> Look | None:
    """Where the lookahead is to be read: a method, an attribute, or (None) what update_lookahead returns.

    Raises:
        Misfit: nowhere.
    """
    speculator = made(STARTS[0], **settings)
    for name in ("get_lookahead", "lookahead", "current_lookahead"):
        if getattr(speculator, name, None) is not None:
            return partial(_read, name)
    likely = [name for name in vars(speculator) if "look" in name or name in ("k", "gamma", "length", "_lookahead")]
    likely = [name for name in likely if not any(word in name for word in ("min", "max", "initial"))]
    if likely:
        return partial(_read, likely[0])
    if _number(speculator.update_lookahead(0.9), strict=False) is not None:
        return None
    raise Misfit(
        "update_lookahead returns no number, and there is no attribute lookahead",
        "no_lookahead" if vars(speculator) else "not_written",
    )


def _read(name: str, speculator: Any, returned: Any) -> Any:
    held = getattr(speculator, name)
    return held() if callable(held) else held


def _number(value: Any, strict: bool = True) -> float | None:
    held = as_lists(value)
    if isinstance(held, int | float | np.number) and not isinstance(held, bool) and held == held:
        return float(min(max(held, -LARGE), LARGE))
    if strict:
        raise Misfit(f"the lookahead is a {type(value).__name__}, no number", "no_whole_number")
    return None
