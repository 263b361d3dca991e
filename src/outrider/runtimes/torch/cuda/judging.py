"""The verdicts of a round with one copy to the device and one read from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from outrider.maths.arrays import float32
from outrider.maths.distributions import Distributions
from outrider.maths.draft import CHOSEN, Draft, Verdict
from outrider.maths.noise import RoundNoise, exponential, uniform
from outrider.maths.rules import Rule, block, coupled, follow, token
from outrider.maths.sampling import SamplingParams
from outrider.runtimes.torch.cuda.chosen_trees import token_on_chosen_trees
from outrider.runtimes.torch.cuda.distribution import distribution_on_device, sound
from outrider.runtimes.torch.cuda.verdict import Chains, JudgeOfChains, block_on_device, token_on_device

Judge = Callable[[Draft, Distributions, RoundNoise], Verdict]
Lines = np.ndarray[Any, np.dtype[np.int64]]
JUDGES: dict[Judge, JudgeOfChains] = {token: token_on_device, block: block_on_device}


def judges_on_device(rule: Rule, drafts: Sequence[Draft]) -> bool:
    """Whether `judge_on_device` can: all drafts under `coupled`, chains under `token` and `block`, and under `token`
    trees whose tokens were all chosen."""
    if rule.judge is coupled or _all_chosen(rule, drafts):
        return True
    return rule.judge in JUDGES and all(draft.is_chain for draft in drafts)


def _all_chosen(rule: Rule, drafts: Sequence[Draft]) -> bool:
    return rule.judge is token and all(draft.q is None and draft.trials is None for draft in drafts)


@torch.inference_mode()
def judge_on_device(
    rule: Rule,
    drafts: Sequence[Draft],
    logits: torch.Tensor,
    sampling: SamplingParams,
    noises: Sequence[RoundNoise],
) -> list[Verdict | None]:
    """The verdicts on drafts that `judges_on_device` says yes to.

    Args:
        logits: [sum of 1 + draft tokens, vocab] on the device, in any precision.
        sampling: the settings of all rows but for their seeds, at temperature > 0, without penalties and processors.
        noises: of each row; with its experience.

    Returns:
        None for a row with a logit that is not finite.

    Raises:
        ModelError: with top-p, the same.
    """
    if rule.judge is coupled:
        return _coupled(drafts, logits.float(), sampling, noises)
    if not all(draft.is_chain for draft in drafts):
        logits = logits.float()
        return token_on_chosen_trees(drafts, distribution_on_device(logits, sampling), sound(logits), noises)
    chains = _on_device(_on_host(rule, drafts, noises), logits.device)
    logits = logits.float()
    accepted, following = JUDGES[rule.judge](
        chains, distribution_on_device(logits, sampling), _joined_q(drafts, logits)
    )
    rows = torch.cat([chains.first[:, None], chains.rows_of_p() + chains.exists()], dim=1)
    all_sound = sound(logits)[rows].all(dim=-1)
    read = torch.stack([accepted, following, all_sound.long()], dim=1).tolist()
    return [
        Verdict(tuple(range(stay)), next_token, bonus=stay == len(draft)) if good else None
        for draft, (stay, next_token, good) in zip(drafts, read, strict=True)
    ]


def _coupled(
    drafts: Sequence[Draft], logits: torch.Tensor, sampling: SamplingParams, noises: Sequence[RoundNoise]
) -> list[Verdict | None]:
    """As `maths.rules.coupled`: the target's own choices, read at once and followed on the host."""
    p = distribution_on_device(logits, sampling)
    choices, first = [], 0
    for draft, noise in zip(drafts, noises, strict=True):
        rows = p[first : first + 1 + len(draft)]  # draft by draft, because the noise takes as much memory as p
        keys = [noise.target(noise.start + depth) for depth in (0, *draft.depths)]
        choices.append((rows / exponential(keys, p.shape[-1], like=p)).argmax(dim=-1))
        first += len(rows)
    read = torch.stack([torch.cat(choices), sound(logits).long()]).tolist()
    verdicts: list[Verdict | None] = []
    for draft in drafts:
        end = 1 + len(draft)
        (chosen, read[0]), (good, read[1]) = ((each[:end], each[end:]) for each in read)
        verdicts.append(follow(draft, chosen) if all(good) else None)
    return verdicts


def _on_host(rule: Rule, drafts: Sequence[Draft], noises: Sequence[RoundNoise]) -> Lines:
    """What the device needs to know, a line for each row: first, count; tokens, q rows, uniform numbers; one more."""
    most = max(len(draft) for draft in drafts)
    lines = np.zeros((len(drafts), 3 + 4 * most), dtype=np.int64)
    first = first_of_q = 0
    for line, draft, noise in zip(lines, drafts, noises, strict=True):
        count = len(draft)
        q_rows = [draft.q_row(node) for node in range(count)]
        # The branch is the number of the trial under `token`, as in maths/rules.py; `block` tries no single token.
        accept = [noise.accept(noise.start + node, branch=node if rule.judge is token else 0) for node in range(count)]
        following = [uniform(noise.next(noise.start + accepted)) for accepted in range(count + 1)]
        line[:2] = first, count
        parts = line[2 : 2 + 3 * most].reshape(3, most)
        parts[0, :count] = draft.tokens
        parts[1, :count] = [row if row == CHOSEN else first_of_q + row for row in q_rows]
        parts[2, :count].view(np.float64)[:] = accept
        line[2 + 3 * most : 3 + 3 * most + count].view(np.float64)[:] = following
        first += 1 + count
        first_of_q += 0 if draft.q is None else draft.q.shape[0]
    return lines


def _on_device(lines: Lines, device: torch.device) -> Chains:
    """Copied at once and taken apart there."""
    most = (lines.shape[1] - 3) // 4
    there = torch.from_numpy(lines).to(device)
    heads, tokens, q_rows, accept, following = torch.split(there, [2, most, most, most, most + 1], dim=1)
    return Chains(
        first=heads[:, 0],
        counts=heads[:, 1],
        tokens=tokens,
        q_rows=q_rows,
        accept=accept.contiguous().view(torch.float64),
        next=following.contiguous().view(torch.float64),
    )


def _joined_q(drafts: Sequence[Draft], logits: torch.Tensor) -> torch.Tensor | None:
    """The q of all drafts, one after the other, float32 on the device of the logits."""
    parts = [float32(draft.q, like=logits) for draft in drafts if draft.q is not None]
    return torch.cat(parts) if parts else None
