"""The lines of a trace: from records to JSON values and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from outrider.engine.events import FinishReason, Origin
from outrider.engine.record import RoundRecord, SequenceRound

FORMAT = "outrider-trace"
VERSION = 1  # readers ignore unknown fields, so that a new field needs no new version

Name = TypeVar("Name", bound=StrEnum)


def header_as_dict(target: str, drafter: str, rule: str) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "target": target, "drafter": drafter, "rule": rule}


def header_of(entry: Mapping[str, Any]) -> dict[str, str]:
    """Raises ValueError if a field is missing or is not a string."""
    return {field: _text(entry, field) for field in ("target", "drafter", "rule")}


def record_as_dict(record: RoundRecord) -> dict[str, Any]:
    return {
        "round": record.number,
        "started": record.started,
        "passes": record.passes,
        "seconds": {
            "drafting": record.seconds_drafting,
            "verification": record.seconds_verification,
            "elsewhere": record.seconds_elsewhere,
        },
        "sequences": [
            {
                "sequence": part.sequence,
                "read": part.read,
                "planned": part.planned,
                "drafted": part.drafted,
                "accepted": part.accepted,
                "tokens": list(part.tokens),
                "origins": [str(origin) for origin in part.origins],
                "drafter": part.source,
                "finish_reason": None if part.finish_reason is None else str(part.finish_reason),
                **({"depths": list(part.depths)} if part.depths else {}),
                **({"texts": list(part.texts)} if part.texts else {}),
            }
            for part in record.sequences
        ],
    }


def record_of(entry: Any) -> RoundRecord:
    """Raises ValueError if a field is missing or has a wrong value."""
    entry = _object(entry, "it")
    seconds = _object(_field(entry, "seconds"), "seconds")
    return RoundRecord(
        number=_whole(entry, "round"),
        started=_number(entry, "started"),
        passes=_whole(entry, "passes"),
        seconds_drafting=_number(seconds, "drafting"),
        seconds_verification=_number(seconds, "verification"),
        seconds_elsewhere=_number(seconds, "elsewhere"),
        sequences=tuple(_part_of(_object(part, "a sequence")) for part in _list(entry, "sequences")),
    )


def _part_of(entry: Mapping[str, Any]) -> SequenceRound:
    part = SequenceRound(
        sequence=_whole(entry, "sequence"),
        read=_whole(entry, "read"),
        planned=None if _field(entry, "planned") is None else _whole(entry, "planned"),
        drafted=_whole(entry, "drafted"),
        accepted=_whole(entry, "accepted"),
        tokens=tuple(_as_whole(token, "a token") for token in _list(entry, "tokens")),
        origins=tuple(_named(Origin, origin, "an origin") for origin in _list(entry, "origins")),
        source=_text(entry, "drafter"),
        finish_reason=(
            None
            if _field(entry, "finish_reason") is None
            else _named(FinishReason, entry["finish_reason"], "finish_reason")
        ),
        depths=tuple(_as_whole(depth, "a depth") for depth in _list(entry, "depths")) if "depths" in entry else (),
        texts=tuple(_list(entry, "texts")) if "texts" in entry else (),
    )
    if part.texts and (len(part.texts) != len(part.tokens) or not all(isinstance(text, str) for text in part.texts)):
        raise ValueError(f"it has {len(part.tokens)} tokens, and texts that are not one for each")
    if part.depths and (len(part.depths) != part.drafted or min(part.depths) < 1):
        raise ValueError(f"it has {part.drafted} drafted tokens, and depths {list(part.depths)}")
    if len(part.tokens) != len(part.origins):
        raise ValueError(f"it has {len(part.tokens)} tokens and {len(part.origins)} origins")
    if part.accepted > part.drafted:
        raise ValueError(f"it has {part.accepted} accepted of {part.drafted} drafted tokens")
    return part


def _field(entry: Mapping[str, Any], name: str) -> Any:
    if name not in entry:
        raise ValueError(f"{name} is missing")
    return entry[name]


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")
    return value


def _list(entry: Mapping[str, Any], name: str) -> list[Any]:
    value = _field(entry, name)
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return value


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = _field(entry, name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a string")
    return value


def _whole(entry: Mapping[str, Any], name: str) -> int:
    return _as_whole(_field(entry, name), name)


def _as_whole(value: Any, name: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r} and not a whole number from 0 on")
    return value


def _number(entry: Mapping[str, Any], name: str) -> float:
    value = _field(entry, name)
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r} and not a number")
    return number


def _named(kind: type[Name], value: Any, name: str) -> Name:
    if value not in list(kind):
        raise ValueError(f"{name} is {value!r} and not one of {', '.join(kind)}")
    return kind(value)
