"""What all dialects read in the same way, and hold to the same limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from outrider.maths.sampling import SamplingParams
from outrider.prompts.schema import shown
from outrider.server.errors import ApiError, refused
from outrider.server.service import Service

if TYPE_CHECKING:
    from outrider.server.dialects.settings import Speculative

NO_DRAFTER = "none"


def require_model(name: str | None, service: Service) -> None:
    """Raises ApiError where another model is asked for."""
    if name is not None and name not in service.settings.models:
        known = ", ".join(service.settings.models)
        raise ApiError(
            404, f"model {shown(name)} is not served here: ask for {known}", param="model", code="model_not_found"
        )


def require_stops(stops: Sequence[str], service: Service, name: str) -> None:
    """Raises ApiError where there are too many stop strings, or one is too long."""
    limits = service.settings.limits
    if len(stops) > limits.stops:
        raise refused(f"there are {len(stops)} stop strings: at most {limits.stops} may be given", name)
    longest = max(map(len, stops), default=0)
    if longest > limits.stop_characters:
        raise refused(f"a stop string has {longest} characters: at most {limits.stop_characters} may be", name)


def most_drafted(asked: Speculative | bool | None, service: Service) -> int | None:
    """The most draft tokens of a round; None leaves it to the engine.

    Raises:
        ApiError: another drafter or rule than the server's is asked for.
    """
    if asked is None or isinstance(asked, bool):
        return 0 if asked is False else None
    drafter = service.drafter or NO_DRAFTER
    for name, value, known in (
        ("drafter", asked.drafter, (drafter, NO_DRAFTER)),
        ("rule", asked.rule, (service.settings.rule,)),
    ):
        if value is not None and value not in known:
            raise refused(
                f"speculative.{name} is {shown(value)}: this server has {' and '.join(known)}", f"speculative.{name}"
            )
    return 0 if asked.drafter == NO_DRAFTER else asked.num_draft_tokens


def sampling_of(service: Service, *, seed: int | None, **given: Any) -> SamplingParams:
    """The server's own settings, with those of a body that are not None; seeds of any size count modulo 2^64.

    Raises:
        SettingError: a value is out of its range.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if seed is not None:
        chosen["seed"] = seed % 2**64
    return replace(service.settings.sampling, **chosen)
