"""What all dialects read in the same way, and hold to the same limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from outrider.errors import shown
from outrider.maths.sampling import SamplingParams
from outrider.server.errors import ApiError, refused
from outrider.server.offers import NO_DRAFTER, Speculated
from outrider.server.service import Service

if TYPE_CHECKING:
    from outrider.server.dialects.settings import Speculative

REPRODUCIBLE = "coupled"  # the rule under which a text does not depend on drafts


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


def speculation_of(asked: Speculative | bool | None, seed: int | None, service: Service) -> Speculated:
    """The fields of a Request that say how it is drafted.

    A request with a seed is verified by rule `coupled` unless it names another one: a seed then gives the same text,
    however many tokens were drafted. Under the others it would depend on measured times.

    Raises:
        ApiError: a drafter or a rule is asked for that there is not.
    """
    rule = None if seed is None else REPRODUCIBLE
    if asked is None or isinstance(asked, bool):
        return service.offers.speculated(NO_DRAFTER if asked is False else None, None, rule)
    return service.offers.speculated(asked.drafter, asked.num_draft_tokens, rule if asked.rule is None else asked.rule)


def sampling_of(service: Service, *, seed: int | None, **given: Any) -> SamplingParams:
    """The server's own settings, with those of a body that are not None; seeds of any size count modulo 2^64.

    Raises:
        SettingError: a value is out of its range.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if seed is not None:
        chosen["seed"] = seed % 2**64
    return replace(service.settings.sampling, **chosen)
