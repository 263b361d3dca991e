"""Task 2: what verify_speculation returns in cases without chance, and how often it returns what with chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, product
from typing import Any

import numpy as np

from outrider.check.learner.child.channel import Channel, Halt, Misfit, described, end_copies
from outrider.check.learner.child.libraries import Library, TableFunction, token_list, whole_number
from outrider.check.learner.child.loading import Found, parameters_of, settings_of
from outrider.check.learner.child.reading import takes_a_ratio_without_min
from outrider.check.learner.tables import (
    DRAFT,
    NEARLY_SURE,
    SAMPLED,
    TARGET,
    Case,
    Probe,
    probes,
)

CALLS_PER_DRAFT = 1000
FIXED_CASES = 12
PROBE_REPEATS = 4
UNDERSTOOD = ("swapped_results", "not_written")
Verify = Callable[..., Any]
Pair = tuple[int, list[int]]


@dataclass(frozen=True, slots=True)
class Form:
    """How arguments are handed over.

    Attributes:
        rows: of target logits, beyond those of the draft tokens: 1 or 0.
    """

    tokens: str
    batched: bool
    rows: int

    def __str__(self) -> str:
        count = "k + 1" if self.rows else "k"
        return f"{self.tokens}, logits {'[1, ' if self.batched else '['}{count}, V]"

    def arguments(self, arrays: Library, draft: tuple[int, ...], target: np.ndarray, drafts: np.ndarray) -> list[Any]:
        tokens: Any = list(draft)
        if self.tokens != "a list":
            tokens = arrays.integers([tokens] if self.tokens == "an array [1, k]" else tokens)
        rows = target[: len(draft) + self.rows]
        logits = (rows[None], drafts[None]) if self.batched else (rows, drafts)
        return [tokens, *(arrays.floats(each) for each in logits)]


FORMS = [
    Form(tokens, batched, rows)
    for rows in (1, 0)
    for tokens in ("a list", "an array [k]", "an array [1, k]")
    for batched in (False, True)
]


class Caller:
    """Calls verify_speculation in one form."""

    def __init__(self, verify: Verify, arrays: Library, form: Form) -> None:
        self._verify = verify
        self._arrays = arrays
        self.form = form
        self._settings = settings_of(verify, 3)
        self.takes_temperature = "temperature" in self._settings
        self._seeds = count() if "seed" in parameters_of(verify) else None

    def __call__(self, draft: tuple[int, ...], target: np.ndarray, drafts: np.ndarray, **settings: Any) -> Pair:
        if self._seeds is not None:
            settings["seed"] = next(self._seeds)
        arguments = self.form.arguments(self._arrays, draft, target, drafts)
        return as_pair(self._verify(*arguments, **(self._settings | settings)))

    def on(self, draft: tuple[int, ...], case: Case, **settings: Any) -> Pair:
        return self(draft, case.target_logits, case.draft_logits, **settings)


def as_pair(result: Any) -> Pair:
    """The returned pair in plain numbers.

    Raises:
        Misfit: it is none.
    """
    end_copies()
    if result is None:
        raise Misfit("verify_speculation returns None", "not_written")
    if not isinstance(result, tuple | list) or len(result) != 2:
        what = f"{len(result)} values" if isinstance(result, tuple | list) else f"a {type(result).__name__}"
        raise Misfit(f"verify_speculation returns {what}: (num_accepted, corrected_tokens) is wanted")
    first, second = result
    if isinstance(first, list) and isinstance(second, int):
        raise Misfit("verify_speculation returns (tokens, number)", "swapped_results")
    tokens = [] if second is None else token_list(second, "corrected_tokens")
    return whole_number(first, "num_accepted"), tokens


def observe_verification(channel: Channel, found: Found, arrays: Library) -> None:
    """Tell the results of probes, and counts of results."""
    with channel.guarded(found.path):
        verify = found.verification(lambda: _decoder(found, arrays))
    channel.send("text", without_min=takes_a_ratio_without_min(verify))
    channel.stage("verify_speculation is called")
    try:
        caller, results = _best_form(verify, arrays, found)
    except Misfit as error:
        channel.send("problem", **described(error, found.path))
        raise Halt from None
    channel.send("probes", what="sure", form=str(caller.form), rows=caller.form.rows, results=results)
    channel.stage("verify_speculation judges one-hot distributions")
    for what, rest, settings in _greedy(caller):
        greedy = _results(caller, found, probes(rest), settings)
        channel.send("probes", what=what, form=str(caller.form), rows=caller.form.rows, results=greedy)
    if all(result.get("mistake", "fails") != "fails" for result in results):
        return  # what it returns cannot be read
    channel.stage("verify_speculation judges drawn tokens")
    _count(channel, found, caller)


def _decoder(found: Found, arrays: Library) -> Any:
    models = [TableFunction(table, arrays, "[1, L, V]") for table in (DRAFT, TARGET)]
    return found.names["SpeculativeDecoder"](*models)


def _best_form(verify: Verify, arrays: Library, found: Found) -> tuple[Caller, list[dict[str, Any]]]:
    """The form in which most probes come out right. One row less only where the last row is refused."""
    best: tuple[int, Caller, list[dict[str, Any]]] | None = None
    for form in FORMS:
        if form.rows == 0 and best is not None and best[0] > 0:
            break
        caller = Caller(verify, arrays, form)
        results = _results(caller, found, probes(NEARLY_SURE), {})
        score = sum(_score(probe, result, form.rows) for probe, result in zip(probes(0), results, strict=True))
        if best is None or score > best[0]:
            best = score, caller, results
        if score == 3 * len(results):
            break
    assert best is not None
    return best[1], best[2]


def _score(probe: Probe, result: dict[str, Any], rows: int) -> int:
    """3 for what is right, 1 for any result at all, and for one whose fault is understood."""
    if "error" in result:
        return int(result["mistake"] in UNDERSTOOD)
    following = [probe.token] if rows or probe.accepted < len(probe.draft) else []
    right = (following, [*probe.draft[: probe.accepted], *following])
    return 3 if result["count"] == probe.accepted and result["tokens"] in right else 1


def _results(caller: Caller, found: Found, asked: list[Probe], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each probe the count and tokens; where several calls differ, the first that is not right."""
    results = []
    for probe in asked:
        seen: list[dict[str, Any]] = []
        for _ in range(PROBE_REPEATS):
            try:
                number, tokens = caller.on(probe.draft, probe.case, **settings)
                seen.append({"count": number, "tokens": tokens[:20]})
            except BaseException as error:
                seen.append(described(error, found.path))
                break
        results.append(min(seen, key=lambda result: _score(probe, result, caller.form.rows)))
    return results


def _greedy(caller: Caller) -> list[tuple[str, float, dict[str, Any]]]:
    asked: list[tuple[str, float, dict[str, Any]]] = [("one-hot", 0.0, {})]
    if caller.takes_temperature:
        asked.append(("temperature=0", 0.05, {"temperature": 0.0}))
    return asked


def _count(channel: Channel, found: Found, caller: Caller) -> None:
    """Call with every possible draft equally often, and count what comes back."""
    counts: Counter[tuple[tuple[int, ...], int, tuple[int, ...]]] = Counter()
    drafts = list(product(range(SAMPLED.q.shape[1]), repeat=len(SAMPLED.q)))
    target, draft_logits = SAMPLED.target_logits, SAMPLED.draft_logits
    end = channel.until(0.75)
    try:
        with channel.guarded(found.path):
            for _ in range(CALLS_PER_DRAFT):
                for draft in drafts:
                    number, tokens = caller(draft, target, draft_logits)
                    counts[draft, number, tuple(tokens[:8])] += 1
                if channel.now() > end:
                    break
    finally:
        if len(counts) == len(drafts) and sum(counts.values()) > 20 * len(drafts):
            _look_at_fixed(channel, found, caller)
        told = [[list(draft), number, list(tokens), times] for (draft, number, tokens), times in counts.items()]
        channel.send("counts", counts=told)


def _look_at_fixed(channel: Channel, found: Found, caller: Caller) -> None:
    """Every draft had one result: is the function greedy, or does its generator start from one seed each time?

    In these cases the bonus token is the most probable one, of 4, if the function is greedy, and by luck otherwise.
    """
    greedy = True
    width = SAMPLED.q.shape[1]
    with channel.guarded(found.path):
        for number in range(FIXED_CASES):
            likely = number % width
            row = np.full(width, 0.2) + 0.2 * (np.arange(width) == likely)
            case = Case(np.array([row, row]), np.array([row]))
            _, tokens = caller.on((likely,), case)
            greedy &= tokens[-1:] == [likely]
        channel.send("fixed", greedy=greedy)
