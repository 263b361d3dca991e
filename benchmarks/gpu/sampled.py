"""Sampled rounds: verdicts and drafts of the device against those of the host, and what a round launches and reads."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks.gpu.counting import Counting
from benchmarks.gpu.models import CHECKED, feed, make, some_text
from benchmarks.gpu.run import Run
from outrider import (
    Draft,
    Drafter,
    DynamicTree,
    Engine,
    Fixed,
    ModelDrafter,
    ModelTreeDrafter,
    Request,
    RoundRecord,
    SamplingParams,
    SuffixDrafter,
    SuffixTreeDrafter,
)
from outrider.drafters.grown import plan_of
from outrider.drafters.heads.drafter import HeadDrafter
from outrider.engine.judgement import judge
from outrider.maths.noise import RoundNoise
from outrider.maths.rules import RULES, Rule, RuleName
from outrider.maths.sampling import History
from outrider.runtimes.base import Draws
from outrider.runtimes.growing import ABSENT, TreeRow
from outrider.runtimes.judging import Case
from outrider.runtimes.torch.cuda.device import Device, Host, device_at
from outrider.runtimes.torch.cuda.model import GraphedLlama
from outrider.runtimes.torch.cuda.session import GraphSession
from outrider.runtimes.torch.cuda.verdicts.judge import DeviceJudge
from outrider.training.heads.start import config_for, new_head

SAMPLINGS = (
    SamplingParams(temperature=0.8),
    SamplingParams(top_k=40, top_p=0.9),
    SamplingParams(temperature=0.7, min_p=0.02, repetition_penalty=1.2),
    SamplingParams(temperature=0),
)
MOST_LAUNCHES, MOST_READS = 30, 2


def verdicts_agree(run: Run) -> bool:
    """The same drafts, logits and noise: the verdicts of replayed graphs must be those of the host."""
    vocabulary = 500 if run.tiny else 128_256
    device = device_at(run.device)
    kinds: dict[str, tuple[Rule, Callable[[np.random.Generator], Draft]]] = {
        "chains, token": (RULES["token"], lambda random: _drawn(random, vocabulary, None)),
        "chains, block": (RULES["block"], lambda random: _drawn(random, vocabulary, None)),
        "chains, coupled": (RULES["coupled"], lambda random: _drawn(random, vocabulary, None)),
        "trees, token": (RULES["token"], lambda random: _drawn(random, vocabulary, (-1, -1, 0, 0, 1))),
        "chosen trees, token": (RULES["token"], lambda random: _chosen(random, vocabulary)),
    }
    unlike = 0
    for name, (rule, draft_of) in kinds.items():
        if run.over:
            break
        random, buffer = np.random.default_rng(1), torch.zeros(64, vocabulary, device=run.device)
        on_device, differ, rounds = DeviceJudge(device, buffer), 0, 3 if run.tiny else 8
        for _ in range(rounds):
            drafts = [draft_of(random) for _ in SAMPLINGS]
            cases = _cases(random, rule, drafts, vocabulary)
            logits = _near_drafts(random, drafts, vocabulary)
            buffer[: len(logits)].copy_(logits)
            verdicts = on_device.launch([rule] * len(cases), cases, buffer[: len(logits)])()
            for case, verdict in zip(cases, verdicts, strict=True):
                rows = logits[case.first : case.first + 1 + len(case.draft)]
                differ += verdict != judge(case.draft, rows, case.sampling, case.history, rule, case.noise)
        run.record(verdicts=name, judged=rounds * len(SAMPLINGS), unlike_the_host=differ)
        unlike += differ
    return not unlike


def _drawn(random: np.random.Generator, vocabulary: int, parents: tuple[int, ...] | None) -> Draft:
    """Tokens of a narrow q, so that they are often accepted; siblings are drawn without replacement."""
    count = 5
    q = random.dirichlet(np.full(8, 1.0), size=count + 1)
    rows = list(range(count)) if parents is None else [parent + 1 for parent in parents]
    tokens = [int(random.choice(8, p=q[row])) for row in rows]
    if parents is not None:
        for first, second in ((0, 1), (2, 3)):
            tokens[first], tokens[second] = random.choice(8, size=2, replace=False, p=q[rows[first]]).tolist()
    wide = np.zeros((count + 1, vocabulary), dtype=np.float32)
    wide[:, :8] = q
    return Draft(tuple(tokens), parents, q=wide, q_rows=tuple(rows))


def _chosen(random: np.random.Generator, vocabulary: int) -> Draft:
    return Draft(tuple(random.choice(8, size=5, replace=False).tolist()), (-1, -1, 0, 0, 1))


def _near_drafts(random: np.random.Generator, drafts: list[Draft], vocabulary: int) -> torch.Tensor:
    logits = random.normal(size=(sum(1 + len(draft) for draft in drafts), vocabulary)).astype(np.float32)
    logits[:, :8] += 10
    return torch.from_numpy(logits)


def _cases(random: np.random.Generator, rule: Rule, drafts: list[Draft], vocabulary: int) -> list[Case]:
    cases, first = [], 0
    for draft, sampling in zip(drafts, SAMPLINGS, strict=True):
        history = History(random.integers(vocabulary, size=20).tolist())
        history.extend(random.integers(8, size=4).tolist())
        noise = RoundNoise(int(random.integers(2**40)), 24, rule.shares_noise)
        cases.append(Case(draft, first, sampling, history, noise))
        first += 1 + len(draft)
    return cases


def _replayed_and_launched(run: Run) -> list[GraphSession]:
    """Two sessions of one model that hold the same two texts: one replays graphs, the other launches each operation."""
    module = make(CHECKED, run.device, torch.float32, spread=0.06)
    ways: list[Device] = [device_at(run.device), Host(run.device)]
    sessions = [GraphedLlama.of(copy.deepcopy(module), device=device).open(2, 256) for device in ways]
    for session in sessions:
        feed(session, 0, some_text(1000, 30, 0))
        feed(session, 1, some_text(1000, 12, 1))
    return sessions


def drawn_drafts_agree(run: Run) -> bool:
    """Drafts that replayed graphs draw, against those of the same passes launched one operation after the other."""
    sessions = _replayed_and_launched(run)
    right = True
    for number in range(5):
        drafts = [_draw(session, number) for session in sessions]
        right = right and drafts[0] == drafts[1]
        for session in sessions:
            session.keep(0, range(2))
            session.keep(1, range(1))
    return right


def _draw(session: GraphSession, number: int) -> list[list[int]]:
    shared = number % 2 == 1
    noises = [RoundNoise(row, 40 + number, shared) for row in range(2)]
    keys = [[noise.draft(40 + number + step) for step in range(4)] for noise in noises]
    drawn, q = session.draw_out([0, 1], [[number], [number, 3]], Draws(SAMPLINGS[:2], keys, shared), 1000)
    if not bool(((q.sum(dim=-1) - 1).abs() < 1e-3).all()):
        raise ArithmeticError("a distribution that a draft was drawn from does not sum to 1")
    return drawn


def several_rules_agree(run: Run) -> bool:
    """Rows of three rules in one round, the logits in two parts, against the host."""
    vocabulary = 500 if run.tiny else 128_256
    names = ("token", "block", "coupled", "token")
    random, buffer = np.random.default_rng(2), torch.zeros(64, vocabulary, device=run.device)
    on_device, differ = DeviceJudge(device_at(run.device), buffer, most=14 * vocabulary), 0
    for _ in range(5):
        rules = [RULES[name] for name in names]
        drafts = [_drawn(random, vocabulary, None) for _ in names]
        logits, cases = _near_drafts(random, drafts, vocabulary), _cases(random, rules[0], drafts, vocabulary)
        cases = [
            replace(case, noise=replace(case.noise, shared=rule.shares_noise))
            for case, rule in zip(cases, rules, strict=True)
        ]
        buffer[: len(logits)].copy_(logits)
        verdicts = on_device.launch(rules, cases, buffer[: len(logits)])()
        for rule, case, verdict in zip(rules, cases, verdicts, strict=True):
            rows = logits[case.first : case.first + 1 + len(case.draft)]
            differ += verdict != judge(case.draft, rows, case.sampling, case.history, rule, case.noise)
    run.record(rules=names, judged=5 * len(names), unlike_the_host=differ)
    return not differ


def trees_agree(run: Run) -> bool:
    """Trees that replayed graphs grow, chosen and drawn, against those of the same passes launched one by one."""
    sessions = _replayed_and_launched(run)
    alike = compared = 0
    for number in range(6):
        trees = [_grow(session, number) for session in sessions]
        compared += len(trees[0])
        alike += sum(a == b for a, b in zip(*trees, strict=True))
        for session in sessions:
            session.keep(0, [0])
            session.keep(1, [0, 1])
    run.record(places_of_trees=compared, alike=alike)
    return alike == compared


def _grow(session: GraphSession, number: int) -> list[tuple[int, list[int]]]:
    """Of each place the candidate that has children there, and these; a row is greedy, and one is drawn."""
    keys = [RoundNoise(row, 40 + number).tree(40 + number) for row in range(2)]
    shape = DynamicTree(4, 5, 4)
    rows = [
        TreeRow(SamplingParams(), number % 2 == 0, keys[0], nodes=16, depth=5),
        TreeRow(SAMPLINGS[0], False, keys[1], nodes=12, depth=4),
    ]
    plan = plan_of(shape, rows)
    assert plan is not None
    grown = session.grow_trees([0, 1], [[number], [number, 3]], plan, 1000)
    if grown.q is None or not bool((grown.q[:1].sum(dim=-1)[:, :2] - 1).abs().max() < 1e-3):
        raise ArithmeticError("a distribution that children were drawn from does not sum to 1")
    above, tokens = grown.above.reshape(-1).tolist(), grown.tokens.reshape(-1, grown.tokens.shape[-1]).tolist()
    return [(each, children if each != ABSENT else []) for each, children in zip(above, tokens, strict=True)]


def drafts_of_a_head_agree(run: Run, trees: bool) -> bool:
    """Texts with a head of random weights on replayed passes, against the same launched one operation after the other.

    Its drafts are rejected mostly: what is compared is what it drafts.
    """
    if importlib.util.find_spec("safetensors") is None:
        run.record(drafts_of_a_head="left out: safetensors is not installed")
        return True
    from outrider.drafters.heads.opening import TorchHead

    module = make(CHECKED, run.device, torch.float32, spread=0.06)
    embedding = module.model.embed_tokens.weight.detach().clone()
    ids = torch.arange(0, CHECKED.vocabulary, 3)
    config = config_for(CHECKED.hidden, CHECKED.layers, CHECKED.vocabulary, len(ids), 512)
    head = new_head(config, embedding.cpu(), ids).eval().requires_grad_(False).to(run.device)
    found = []
    for device in (device_at(run.device), Host(run.device)):
        target = GraphedLlama.of(copy.deepcopy(module), device=Host(run.device))
        drafts: list[tuple[int, ...]] = []
        engine = Engine(
            target,
            HeadDrafter(TorchHead(head, embedding, ids, device), trees=trees),
            lookahead=Fixed(12 if trees else 4),
            max_rows=2,
            capacity=160,
            observer=partial(_note_drafts, drafts),
        )
        for row, sampling in enumerate((SAMPLINGS[0], SAMPLINGS[3])):
            prompt = tuple(some_text(CHECKED.vocabulary, 20, row))
            engine.submit(Request(prompt, 24, replace(sampling, seed=row), stop_token_ids=frozenset()))
        while not engine.idle:
            engine.step()
        found.append(drafts)
    run.record(drafts_of_a_head=len(found[0]), alike=sum(a == b for a, b in zip(*found, strict=False)))
    return found[0] == found[1] and len(found[0]) > 10


def _note_drafts(drafts: list[tuple[int, ...]], record: RoundRecord) -> None:
    drafts += [part.draft.tokens for part in record.sequences if part.draft is not None]


def rounds_launch_and_read_little(run: Run) -> bool:
    """Launches and reads of settled rounds of two texts, greedy and sampled, by PyTorch's dispatcher."""
    counting = Counting(run.device)
    device = counting.of(device_at(run.device))
    module = make(CHECKED, run.device, torch.bfloat16, seed=5, spread=0.06)
    target, draft = (GraphedLlama.of(copy.deepcopy(module), device=device) for _ in range(2))
    drafters: dict[str, Callable[[], Drafter | None]] = {
        "plain": lambda: None,
        "suffix": SuffixDrafter,
        "suffix tree": SuffixTreeDrafter,
        "model": lambda: ModelDrafter(draft),
        "model tree": lambda: ModelTreeDrafter(draft, DynamicTree(4, 4, 4)),
    }
    cases: list[tuple[str, RuleName, SamplingParams]] = [
        *((name, "token", SamplingParams(temperature=0)) for name in drafters),
        *((name, "token", SAMPLINGS[0]) for name in drafters),
        ("suffix", "coupled", SAMPLINGS[1]),
        ("model", "block", SAMPLINGS[1]),
    ]
    right = True
    for name, rule, sampling in cases:
        if run.over:
            break
        engine = Engine(target, drafters[name](), lookahead=Fixed(4), rule=rule, max_rows=2, capacity=400)
        for row in range(2):
            prompt = tuple([3, 5, 7, 9 + row] * 8)
            engine.submit(Request(prompt, 300, replace(sampling, seed=row), stop_token_ids=frozenset()))
        found = []
        with counting:
            for _ in range(10 if run.tiny else 20):
                before = counting.counts()
                engine.step()
                found.append(tuple(now - then for now, then in zip(counting.counts(), before, strict=True)))
        launches, reads = sorted(found[-7:])[3]
        run.record(round=name, rule=rule, temperature=sampling.temperature, launches=launches, reads=reads)
        right = right and (run.tiny or launches <= MOST_LAUNCHES) and reads <= MOST_READS
    return right
