"""The proposer that vLLM calls after each of its steps."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from outrider.drafters.base import Drafter, Reading
from outrider.drafters.lookup.drafter import LookupDrafter
from outrider.drafters.lookup.memories import MemorySource
from outrider.drafters.lookup.suffixes import SuffixSource
from outrider.drafters.recycling.memory import RecyclingMemory
from outrider.drafters.recycling.source import RecyclingSource
from outrider.drafters.suffix.drafter import SuffixDrafter
from outrider.drafters.suffix.memory import SuffixMemory
from outrider.hosts.vllm.meter import Meter
from outrider.hosts.vllm.settings import Settings, read_settings
from outrider.hosts.vllm.texts import Assignment, HostedText, Texts
from outrider.lookahead import CostCurve, Goodput, Outcome, Times
from outrider.lookahead.fixed import Fixed
from outrider.lookahead.policy import DraftingTraits, LookaheadPolicy
from outrider.maths.draft import EMPTY, Draft, Verdict
from outrider.runtimes.base import Top

logger = logging.getLogger("outrider")


class Proposer:
    """Drafts for vLLM's requests with Outrider's drafters, as many tokens as pay by measured times.

    vLLM accepts or rejects; a row's next tokens tell which. What a step costs is learned from the time between two
    calls, which is that of vLLM's forward pass and all that it does around it.

    Args:
        vllm_config: vLLM's own; its number of speculative tokens is the most that a draft has.
        settings: None reads the environment and its file (`Settings`).
        clock: seconds.

    Raises:
        SettingError: a setting is unknown or out of range.
    """

    def __init__(
        self, vllm_config: Any, settings: Settings | None = None, clock: Callable[[], float] = perf_counter
    ) -> None:
        settings = read_settings(os.environ) if settings is None else settings
        model = vllm_config.model_config
        most = vllm_config.speculative_config.num_speculative_tokens
        self._longest = model.max_model_len
        self._drafter = make_drafter(settings, model.get_vocab_size())
        self._drafter.prepare(vllm_config.scheduler_config.max_num_seqs, self._longest, model.get_vocab_size())
        self._costs = CostCurve()
        self._lookahead: LookaheadPolicy = (
            Goodput(most, costs=self._costs) if settings.lookahead == "auto" else Fixed(most)
        )
        self._lookahead.bind(DraftingTraits(estimates=self._drafter.estimates), self._costs)
        self._clock = clock
        self._texts = Texts()
        self._meter = Meter(settings.log_seconds, clock)
        self._drafting = 0.0  # seconds of the last call
        self._left = clock()  # when it returned
        self._rows: frozenset[int] = frozenset()  # that drafted or could
        self._failed = False

    def load_model(self, *arguments: Any, **settings: Any) -> None:
        """vLLM calls it for proposers with weights; there are none."""

    def propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: Any,
        token_ids_cpu: Any,
        slot_mappings: Any = None,
    ) -> list[list[int]]:
        """A draft for each row, which may be empty.

        Args:
            sampled_token_ids: what each row emitted in this step; nothing where it still reads its prompt.
            num_tokens_no_spec: [rows at least], how many tokens each row has, those included.
            token_ids_cpu: [rows at least, longest text], these tokens.
        """
        drafts: list[list[int]] = [[] for _ in sampled_token_ids]
        if self._failed:
            return drafts
        try:
            for row, draft in self._propose(sampled_token_ids, num_tokens_no_spec, token_ids_cpu).items():
                drafts[row] = list(draft.tokens)
        except Exception:  # whatever it is, it must not end the server
            logger.exception("the drafter failed: decoding goes on without drafts")
            self._failed = True
        return drafts

    def _propose(self, sampled: Sequence[Sequence[int]], counts: Any, tokens: Any) -> Mapping[int, Draft]:
        entered = self._clock()
        emitted = {row: list(new) for row, new in enumerate(sampled) if new}
        assigned = self._texts.assign({row: tokens[row, : counts[row]] for row in emitted}, emitted)
        self._learn(assigned, emitted, len(emitted) == len(sampled), entered - self._left)
        for text in assigned.ended:
            self._drafter.forget(text)
            self._lookahead.forget(text.id)
        drafts = self._drafted(assigned)
        self._left = self._clock()
        self._drafting = self._left - entered
        return drafts

    def _drafted(self, assigned: Assignment) -> dict[int, Draft]:
        """Plan, and draft."""
        open_rows = {row: text for row, text in assigned.texts.items() if len(text.tokens) < self._longest - 1}
        texts = list(open_rows.values())
        if not texts:
            return {}
        self._costs.depth = sum(len(text.tokens) for text in texts) / len(texts)
        budgets = self._lookahead.budgets([text.id for text in texts])
        for text, budget in zip(texts, budgets, strict=True):
            room = self._longest - 1 - len(text.tokens)
            text.budget = budget._replace(nodes=min(budget.nodes, room), depth=min(budget.depth, room))
        drafts = self._drafter.propose(texts, [text.budget for text in texts])
        for text, draft in zip(texts, drafts, strict=True):
            text.draft = draft
        return dict(zip(open_rows, drafts, strict=True))

    def _learn(self, assigned: Assignment, emitted: Mapping[int, Sequence[int]], alone: bool, seconds: float) -> None:
        """What became of the drafts, and what the step cost.

        Args:
            alone: whether no row read its prompt.
            seconds: since the last call returned.
        """
        texts = assigned.texts
        steady = alone and assigned.known and frozenset(text.id for text in texts.values()) == self._rows
        if steady:
            self._costs.observe(len(texts), sum(1 + len(text.draft) for text in texts.values()), seconds)
        outcomes = []
        for row, text in texts.items():
            draft, new = text.draft, emitted[row]
            accepted = len(new) - 1 if len(draft) else 0
            self._drafter.read([text], [_reading(text, new)])
            text.extend(new)
            self._drafter.observe(text, draft, Verdict(tuple(range(accepted)), new[-1], accepted == len(draft)))
            if text.budget.nodes or text.budget.prices.totals:
                outcomes.append(_outcome(text, accepted))
            self._meter.count(len(new), len(draft), accepted)
            text.draft = EMPTY
        if outcomes:
            self._lookahead.observe(outcomes, Times(self._drafting, seconds, 0.0) if steady else None)
        self._rows = frozenset(text.id for text in texts.values())
        self._meter.log()


def make_drafter(settings: Settings, vocab_size: int) -> Drafter:
    """The drafter that the settings name. Its drafts are chains: vLLM's proposers have no trees."""
    memory = SuffixMemory(settings.memory_tokens, prompts=settings.memory_prompts) if settings.memory_tokens else None
    if settings.drafter == "suffix":
        return SuffixDrafter(memory=memory)
    remembered = [] if memory is None else [MemorySource(memory)]
    recycling = RecyclingSource(RecyclingMemory(vocab_size=vocab_size))
    return LookupDrafter([SuffixSource(), *remembered, recycling], trees=False)


def _reading(text: HostedText, emitted: Sequence[int]) -> Reading:
    """What a step shows of the target: the tokens that it emitted, and no others that it had in mind."""
    fed = [text.tokens[-1], *emitted[:-1]]
    top = Top(np.asarray(emitted, dtype=np.int64)[:, None], np.ones((len(emitted), 1), dtype=np.float32))
    return Reading(len(text.tokens) - 1, fed, Draft(tuple(emitted[:-1])), top=top)


def _outcome(text: HostedText, accepted: int) -> Outcome:
    draft = text.draft
    return Outcome(text.id, text.budget.nodes, len(draft), accepted, expected=sum(draft.chances or ()))
