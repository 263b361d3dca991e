"""Judges the drafts of all rows: one copy to the device, one graph, and one read of what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch

from outrider.maths.arrays import Array
from outrider.maths.arrays.torch import exponential_of
from outrider.maths.draft import Draft, Verdict
from outrider.maths.rules import Rule, block, coupled, follow, token
from outrider.runtimes.judging import Case, Choices, Reading
from outrider.runtimes.torch.cuda.device import Device, device_at
from outrider.runtimes.torch.cuda.graphs import Graphs
from outrider.runtimes.torch.cuda.staging import Staging
from outrider.runtimes.torch.cuda.verdicts.chains import Chains, block_on_device, token_on_device
from outrider.runtimes.torch.cuda.verdicts.drawn import Drawn
from outrider.runtimes.torch.cuda.verdicts.layout import Kind, VerdictLayout, padded
from outrider.runtimes.torch.cuda.verdicts.packing import layout_of, pack
from outrider.runtimes.torch.cuda.verdicts.penalties import Pairs, pairs_of, penalised
from outrider.runtimes.torch.cuda.verdicts.settings import distributions, sound
from outrider.runtimes.torch.cuda.verdicts.trees import Trees, trees_on_device

MOST_NUMBERS = 2**18  # that a captured verdict hears from the host
MOST_LOGITS = 2**27  # that are judged together: a verdict takes some six times their memory
AT_ONCE = 16  # rows of noise that are made together: it takes several times their memory


class DeviceJudge:
    """See `outrider.runtimes.judging.Judge`.

    Args:
        logits: [rows, vocab], where the logits of replayed passes lie. Verdicts on these are replayed too; verdicts on
            others are launched one operation after the other. None where no pass is replayed.
        most: logits that are judged together. Of more, each part is a verdict and a read of its own.
    """

    def __init__(self, device: Device, logits: torch.Tensor | None = None, most: int = MOST_LOGITS) -> None:
        self._device = device
        self._most = most
        self._logits = logits
        self._graphs = Graphs(device)
        self._staging: Staging | None = None  # made at the first verdict: many sessions are only drafted with
        self._results: torch.Tensor | None = None
        self._q: dict[int, torch.Tensor] = {}

    def judges(self, rule: Rule, case: Case) -> bool:
        if case.sampling.logits_processors:
            return False
        return rule.judge in (token, coupled) or (rule.judge is block and case.draft.is_chain)

    @torch.inference_mode()
    def choose(self, logits: Array) -> Choices:
        with self._device.guard():
            fetched = self._device.fetch(self._chosen(logits))
        count = len(logits)
        return lambda: [None if token < 0 else token for token in fetched()[:count].tolist()]

    @torch.inference_mode()
    def launch(self, rules: Sequence[Rule], cases: Sequence[Case], logits: Array) -> Reading:
        parts = _parts(rules, cases, max(self._most // logits.shape[-1], 1))
        with self._device.guard():
            launched, used = list[torch.Tensor](), 0
            for part in parts:
                launched.append(self._launch(part, logits, used))
                used += len(launched[-1])
            fetched = self._device.fetch(launched[0] if len(launched) == 1 else torch.cat(launched))
        ends = [0, *accumulate(map(len, launched))]

        def read() -> list[Verdict | None]:
            numbers, found = fetched().tolist(), dict[int, Verdict | None]()
            for part, first, end in zip(parts, ends[:-1], ends[1:], strict=True):
                found |= zip(part.numbers, _verdicts(part.kind, part.cases, numbers[first:end]), strict=True)
            return [found[number] for number in range(len(cases))]

        return read

    def _chosen(self, logits: torch.Tensor) -> torch.Tensor:
        """The most probable token of each row, int64 [at least rows]; -1 where a logit is not finite."""
        static, count = self._logits, padded(len(logits))
        if static is None or logits.data_ptr() != static.data_ptr() or count > min(len(static), MOST_NUMBERS):
            return choices_of(logits)
        results = self._static_results()[:count]

        def work() -> None:
            results.copy_(choices_of(static[:count]))

        self._graphs.run(("choices", count), work)
        return results

    def _static_results(self) -> torch.Tensor:
        """int64 [MOST_NUMBERS], where graphs leave what the host reads."""
        if self._results is None:
            self._results = torch.zeros(MOST_NUMBERS, dtype=torch.int64, device=self._device.place)
        return self._results

    def _launch(self, part: Part, whole: torch.Tensor, first: int) -> torch.Tensor:
        """The numbers that the host reads, on the device.

        Args:
            whole: the logits of all parts.
            first: where static results of this part begin.
        """
        cases, logits, static = part.cases, whole[part.first : part.end], self._logits
        pairs = pairs_of(cases, logits.shape[-1])
        if static is not None and whole.data_ptr() == static.data_ptr():
            layout = layout_of(part.kind, cases, min(padded(len(logits)), len(static) - part.first), pairs)
            if layout.size <= MOST_NUMBERS and first + layout.results <= MOST_NUMBERS:
                return self._replay(layout, part, static, pairs, first)
        layout = layout_of(part.kind, cases, len(logits), pairs)
        area = np.empty(layout.size, dtype=np.int64)
        pack(area, layout, cases, pairs)
        drawn = Drawn.of(cases, logits) if layout.drawn else None
        if drawn is not None:
            drawn.name(layout.sections(area)["q_from"])
        there = torch.from_numpy(area).to(logits.device)
        q = None if drawn is None else drawn.joined(layout.sections(there)["q_from"])
        return judged(layout, there, logits, q)

    def _replay(
        self, layout: VerdictLayout, part: Part, static: torch.Tensor, pairs: Pairs | None, first: int
    ) -> torch.Tensor:
        if self._staging is None:
            self._staging = Staging(self._device, MOST_NUMBERS)
        staging, results = self._staging, self._static_results()[first : first + layout.results]
        logits, area, there = static[part.first : part.first + layout.scored], staging.area(), staging.there
        pack(area, layout, part.cases, pairs)
        q = None
        if layout.drawn:
            drawn, q = Drawn.of(part.cases, logits), self._static_q(layout.drawn, logits.shape[-1])
            drawn.name(layout.sections(area)["q_from"])
            staging.copy(layout.size)
            drawn.joined(layout.sections(there)["q_from"], q)
        else:
            staging.copy(layout.size)

        def work() -> None:
            results.copy_(judged(layout, there, logits, q))

        self._graphs.run((layout, part.first, first), work)
        return results

    def _static_q(self, rows: int, vocab_size: int) -> torch.Tensor:
        """For the q of all drafts, at an address that the graph knows."""
        q = self._q.get(rows)
        if q is None:
            q = self._q[rows] = torch.zeros(rows, vocab_size, device=self._device.place)
        return q


class Part(NamedTuple):
    """Drafts that are judged together.

    Attributes:
        first, end: rows of the logits.
        numbers: of the drafts among all.
        cases: counted from `first`.
    """

    kind: Kind
    first: int
    end: int
    numbers: list[int]
    cases: list[Case]


def _parts(rules: Sequence[Rule], cases: Sequence[Case], most: int) -> list[Part]:
    """Parts of one kind and of at most so many rows of logits, but of one draft at least. The first of each kind begins
    where the logits do."""
    together = dict[str, list[int]]()
    for number, rule in enumerate(rules):
        together.setdefault(rule.name, []).append(number)
    parts = list[Part]()
    for _, numbers in sorted(together.items()):  # in one order, so that each has its place among the results
        kind = _kind_of(rules[numbers[0]], [cases[number].draft for number in numbers])
        parts.append(Part(kind, 0, 0, [], []))
        for number in numbers:
            part, case = parts[-1], cases[number]
            end = case.first + 1 + len(case.draft)
            if part.cases and end - part.first > most:
                parts.append(part := Part(kind, case.first, end, [], []))
            part.numbers.append(number)
            part.cases.append(replace(case, first=case.first - part.first))
            parts[-1] = part._replace(end=end)
    return parts


def choices_of(logits: torch.Tensor) -> torch.Tensor:
    """The most probable token of each row, int64 [rows]; -1 where it is not finite."""
    largest, tokens = logits.max(dim=-1)
    return torch.where(largest.isfinite(), tokens, -1)


def judge_for(logits: torch.Tensor) -> DeviceJudge:
    """For logits that lie anywhere on a device: no verdict of it is replayed."""
    return DeviceJudge(device_at(logits.device))


def _kind_of(rule: Rule, drafts: Sequence[Draft]) -> Kind:
    if rule.judge is coupled:
        return Kind.COUPLED
    if not all(draft.is_chain for draft in drafts):
        return Kind.TREE
    return Kind.TOKEN if rule.judge is token else Kind.BLOCK


def judged(layout: VerdictLayout, area: torch.Tensor, logits: torch.Tensor, q: torch.Tensor | None) -> torch.Tensor:
    """From the numbers of the host to those that it reads, int64 [results]. Nothing here asks the host."""
    sections = layout.sections(area)
    logits = logits.float()
    good = sound(logits).long()
    if layout.pairs:
        logits = penalised(logits, sections)
    p = distributions(logits, sections["settings"], layout.filters)
    if layout.kind is Kind.COUPLED:
        return torch.cat([_choices(p, sections["keys"]), good])
    if layout.kind is Kind.TREE:
        ends, following = trees_on_device(Trees(**_of(Trees, sections)), p, q)
    else:
        judge = token_on_device if layout.kind is Kind.TOKEN else block_on_device
        ends, following = judge(Chains(**_of(Chains, sections)), p, q)
    return torch.cat([ends, following, good])


def _of(kind: type[Chains | Trees], sections: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {field.name: sections[field.name] for field in fields(kind)}


def _choices(p: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The target's own draw in each row, by the noise of its key."""
    found = [
        (rows / exponential_of(some.int(), p.shape[-1])).argmax(dim=-1)
        for rows, some in zip(torch.split(p, AT_ONCE), torch.split(keys, AT_ONCE), strict=True)
    ]
    return torch.cat(found)


def _followed(cases: Sequence[Case], numbers: Sequence[int]) -> list[Verdict | None]:
    scored = len(numbers) // 2
    verdicts = list[Verdict | None]()
    for case in cases:
        rows = slice(case.first, case.first + 1 + len(case.draft))
        verdicts.append(follow(case.draft, numbers[:scored][rows]) if all(numbers[scored:][rows]) else None)
    return verdicts


def _verdicts(kind: Kind, cases: Sequence[Case], numbers: Sequence[int]) -> list[Verdict | None]:
    if kind is Kind.COUPLED:
        return _followed(cases, numbers)
    rows = padded(len(cases))
    ends, following, good = numbers[:rows], numbers[rows : 2 * rows], numbers[2 * rows :]
    verdicts = list[Verdict | None]()
    for case, end, next_token in zip(cases, ends, following, strict=False):
        draft = case.draft
        node = (end - case.first if kind is Kind.TREE else end) - 1
        if not all(good[case.first : case.first + 1 + len(draft)]):
            verdicts.append(None)
            continue
        verdicts.append(Verdict(draft.path(node), next_token, bonus=not draft.children(node)))
    return verdicts
