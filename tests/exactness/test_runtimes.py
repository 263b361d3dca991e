"""Real sessions, of one runtime or two, through the whole decoder: what they emit is what the target's own logits say.

The target's logits after every text are read by fresh sessions, and a decoder over these, with the same drafter and the
same seeds, has to emit the same texts: its distribution is what the other files of this folder are about.

Draft and target are networks of a few hundred weights, drawn apart, so that most drafts are rejected and rolled back.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from exactness.drafters import TreeDrafter
from exactness.draws import texts_of
from outrider import Drafter, FunctionModel, ModelDrafter, SamplingParams, SpeculativeDecoder, TableModel
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Model, Pass
from outrider.runtimes.replay import Snapshots
from tiny import mlx as tiny_mlx
from tiny import native as tiny_native

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

VOCABULARY = 4
PROMPT = (0, 1, 3, 2)
LENGTH = 6
TEXTS = 40
SAMPLING = SamplingParams(temperature=0.9)


@cache
def mlx(kind: str, seed: int) -> Model:
    pytest.importorskip("mlx_lm")
    from outrider.runtimes.mlx.model import MlxModel

    settings = {
        "gemma3_text": {"num_hidden_layers": 2, "sliding_window_pattern": 2, "sliding_window": 3},  # below the prompt
        "jamba": {"num_hidden_layers": 2},
    }.get(kind, {"num_hidden_layers": 1})
    return MlxModel(tiny_mlx.model(kind, seed=seed, spread=0.3, vocab_size=VOCABULARY, **settings))


@cache
def course(seed: int) -> Any:
    pytest.importorskip("mlx.core")
    return tiny_mlx.CourseModelWithCache(vocab_size=VOCABULARY, seed=seed)


@cache
def torch(kind: str, seed: int) -> Model:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from outrider.runtimes.torch.model import TransformersModel

    return TransformersModel(of_transformers(kind, seed))


def of_transformers(kind: str, seed: int) -> Any:
    import torch
    import transformers

    torch.manual_seed(seed)
    settings = {"Llama": {"intermediate_size": 16, "num_attention_heads": 2}, "Mamba": {"state_size": 4}}[kind]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=None,  # a text must not end early
        **settings,
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config)


@cache
def graphed(seed: int) -> Model:
    """As on a GPU."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from outrider.runtimes.torch.cuda.model import GraphedLlama

    return GraphedLlama.of(of_transformers("Llama", seed).eval(), device="cpu")


@cache
def native(dtype: str, seed: int) -> Model:
    """Quantised weights and activations: exact for what the runtime itself computes."""
    transformers = pytest.importorskip("transformers")
    tiny_native.library()
    import torch as pytorch

    pytorch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    return tiny_native.of_transformers(transformers.LlamaForCausalLM(config), dtype, threads=2)


class LogitsOf:
    """What follows a text in a model: each text is fed from its start to a session that saw no other."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[tuple[int, ...], np.ndarray] = {}

    def logits_after(self, text: Sequence[int]) -> np.ndarray:
        key = tuple(text)
        if key not in self._known:
            session = self._model.open(1, len(key))
            self._known[key] = to_numpy(session.extend(Pass([0], [list(key)], wanted=[1])).logits)[0]
        return self._known[key]


def tree(seed: int) -> Drafter:
    return TreeDrafter(TableModel.random(VOCABULARY, 1, spread=1.0, seed=seed), 2)


CASES: dict[str, tuple[str, int, Callable[[], Any], Callable[[], Any]]] = {
    "mlx drafts for torch": ("token", 2, lambda: torch("Llama", 1), lambda: ModelDrafter(mlx("llama", 2))),
    "torch drafts for mlx": ("block", 2, lambda: mlx("qwen3", 3), lambda: ModelDrafter(torch("Llama", 4))),
    "mlx, sliding windows": ("coupled", 2, lambda: mlx("gemma3_text", 5), lambda: ModelDrafter(mlx("llama", 6))),
    "mlx, rolled out": ("token", 2, lambda: mlx("qwen3", 17), lambda: ModelDrafter(mlx("llama", 18), greedy=True)),
    "mlx, trees": ("token", 5, lambda: mlx("llama", 7), lambda: tree(8)),
    "mlx, replayed": ("token", 2, lambda: mlx("jamba", 9), lambda: ModelDrafter(mlx("mamba", 10))),
    "mlx, trees replayed": ("coupled", 5, lambda: mlx("mamba", 11), lambda: tree(12)),
    "torch, trees replayed": ("token", 5, lambda: torch("Mamba", 15), lambda: tree(16)),
    "graphed": ("block", 3, lambda: graphed(28), lambda: ModelDrafter(graphed(29))),
    "graphed, rolled out": ("token", 3, lambda: graphed(30), lambda: ModelDrafter(graphed(31), greedy=True)),
    "graphed, trees": ("token", 5, lambda: graphed(32), lambda: tree(33)),
    "native": ("token", 3, lambda: native("q8_0", 19), lambda: ModelDrafter(native("q4_0", 20))),
    "native, same weights in 4 bits": (
        "block",
        3,
        lambda: native("q8_0", 21),
        lambda: ModelDrafter(native("q4_0", 21)),
    ),
    "native, trees": ("token", 5, lambda: native("q8_0", 22), lambda: tree(23)),
    "native, coupled trees": ("coupled", 5, lambda: native("q4_0", 24), lambda: tree(25)),
    "native drafts for torch": ("token", 2, lambda: torch("Llama", 26), lambda: ModelDrafter(native("q8_0", 27))),
    "course": ("block", 2, lambda: course(13), lambda: course(14)),
}


def texts_are_right(
    case: str, mistake: Callable[[], AbstractContextManager] = nullcontext, length: int = LENGTH
) -> bool:
    rule, lookahead, target, drafter = CASES[case]
    decoder = SpeculativeDecoder(drafter(), target(), lookahead, rule=rule)
    truth = LogitsOf(decoder.target)
    read_afresh = FunctionModel(lambda ids: truth.logits_after(ids[0].tolist()))
    over_truth = SpeculativeDecoder(drafter(), read_afresh, lookahead, rule=rule)
    expected = texts_of(over_truth, PROMPT, SAMPLING, texts=TEXTS, length=length)
    with mistake():
        sample = texts_of(decoder, PROMPT, SAMPLING, texts=TEXTS, length=length)
    assert 0 < sample.accepted < sample.drafted
    return sample.texts == expected.texts


@pytest.mark.parametrize("case", CASES)
def test_texts_are_what_the_targets_own_logits_say(case: str) -> None:
    assert texts_are_right(case)


def snapshot_that_is_read_on_with() -> AbstractContextManager:
    def back(self: Snapshots, length: int) -> int:
        if length < self._length:
            self._length = self._marks[-1][0] if self._marks else 0  # and the state stays where it is
        return self._length

    return patch.object(Snapshots, "back", back)


def siblings_that_see_each_other() -> AbstractContextManager:
    from outrider.runtimes.layout import Plan

    of = Plan.of.__func__

    def sees_too_much(cls: type[Plan], ledger: Any, rows: Sequence[int], *rest: Any) -> Plan:
        plan = of(cls, ledger, rows, *rest)
        if plan.sees is not None:
            plan.sees[:] = True
        return plan

    return patch.object(Plan, "of", classmethod(sees_too_much))


def siblings_that_see_each_other_on_a_gpu() -> AbstractContextManager:
    from outrider.runtimes.torch.cuda.places import RowPlaces

    def all_before(self: RowPlaces, words: int) -> np.ndarray:
        held = self.start - self.base
        return np.array([[(1 << held + 1 + number) - 1] for number in range(self.count)])

    return patch.object(RowPlaces, "ancestors", all_before)


MISTAKES = [
    ("graphed, trees", siblings_that_see_each_other_on_a_gpu),
    ("mlx, trees replayed", snapshot_that_is_read_on_with),
    ("mlx, trees", siblings_that_see_each_other),
]


@pytest.mark.parametrize("case, mistake", MISTAKES, ids=lambda part: getattr(part, "__name__", part))
def test_a_planted_mistake_is_found(case: str, mistake: Callable[[], AbstractContextManager]) -> None:
    assert not texts_are_right(case, mistake, length=3)  # longer ones fail, for states that were dropped too soon
