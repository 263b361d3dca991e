"""Outrider: exact, self-tuning speculative decoding.

    import outrider

    decoder = outrider.SpeculativeDecoder(outrider.SuffixDrafter(), "smollm2")
    print(decoder.generate("The capital of France is").text)

A name is imported when it is first asked for, and backends (PyTorch, MLX, llama.cpp) when a model of theirs is opened.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from outrider.errors import (
    BatchError,
    InputError,
    ModelError,
    OutriderError,
    QueueFullError,
    SettingError,
    VocabularyError,
)

if TYPE_CHECKING:
    from outrider.api.batched import batched_speculative_decode
    from outrider.api.course import verify_speculation
    from outrider.api.decoder import SpeculativeDecoder
    from outrider.api.stream import Generation, TokenStream
    from outrider.drafters.across.intersection import IntersectionDrafter
    from outrider.drafters.across.string import StringDrafter
    from outrider.drafters.base import DraftedSequence, Drafter, Reading
    from outrider.drafters.heads.loading import head_drafter
    from outrider.drafters.joint.drafter import JointDrafter
    from outrider.drafters.lookup.drafter import LookupDrafter, RecyclingDrafter
    from outrider.drafters.lookup.loading import lookup_drafter
    from outrider.drafters.lookup.memories import MemorySource
    from outrider.drafters.lookup.suffixes import SuffixSource
    from outrider.drafters.model import ModelDrafter
    from outrider.drafters.model_tree import ModelTreeDrafter
    from outrider.drafters.recycling.memory import RecyclingMemory
    from outrider.drafters.recycling.source import RecyclingSource
    from outrider.drafters.several.chained import Chained
    from outrider.drafters.several.merged import Merged
    from outrider.drafters.suffix.drafter import SuffixDrafter
    from outrider.drafters.suffix.memory import SuffixMemory
    from outrider.drafters.suffix.tree import SuffixTreeDrafter
    from outrider.drafters.tree_shapes import DynamicTree, StaticTree
    from outrider.engine.asynchronous import AsyncEngine
    from outrider.engine.engine import Engine
    from outrider.engine.events import FinishReason, Origin, TokenEvent
    from outrider.engine.handle import Handle
    from outrider.engine.record import RoundRecord, SequenceRound
    from outrider.engine.statistics import Statistics
    from outrider.hosts.transformers import generate
    from outrider.lookahead import (
        Adaptive,
        AdaptiveSpeculator,
        CostCurve,
        DraftingTraits,
        Fixed,
        Goodput,
        LookaheadPolicy,
        Outcome,
        Times,
    )
    from outrider.maths.budget import Budget, Prices
    from outrider.maths.draft import Draft
    from outrider.maths.processors import LogitsProcessor
    from outrider.maths.sampling import SamplingParams
    from outrider.prompts.request import Request
    from outrider.runtimes.base import Features, Model, Session
    from outrider.runtimes.loading import load
    from outrider.runtimes.stateless import FunctionModel
    from outrider.runtimes.table import TableModel
    from outrider.trace import TraceWriter, read_trace

logging.getLogger("outrider").addHandler(logging.NullHandler())  # silent, until a program asks to hear it

__version__ = "0.1.0"

__all__ = [
    "Adaptive",
    "AdaptiveSpeculator",
    "AsyncEngine",
    "BatchError",
    "Budget",
    "Chained",
    "CostCurve",
    "Draft",
    "DraftedSequence",
    "Drafter",
    "DraftingTraits",
    "DynamicTree",
    "Engine",
    "Features",
    "FinishReason",
    "Fixed",
    "FunctionModel",
    "Generation",
    "Goodput",
    "Handle",
    "InputError",
    "IntersectionDrafter",
    "JointDrafter",
    "LogitsProcessor",
    "LookaheadPolicy",
    "LookupDrafter",
    "MemorySource",
    "Merged",
    "Model",
    "ModelDrafter",
    "ModelError",
    "ModelTreeDrafter",
    "Origin",
    "Outcome",
    "OutriderError",
    "Prices",
    "QueueFullError",
    "Reading",
    "RecyclingDrafter",
    "RecyclingMemory",
    "RecyclingSource",
    "Request",
    "RoundRecord",
    "SamplingParams",
    "SequenceRound",
    "Session",
    "SettingError",
    "SpeculativeDecoder",
    "StaticTree",
    "Statistics",
    "StringDrafter",
    "SuffixDrafter",
    "SuffixMemory",
    "SuffixSource",
    "SuffixTreeDrafter",
    "TableModel",
    "Times",
    "TokenEvent",
    "TokenStream",
    "TraceWriter",
    "VocabularyError",
    "batched_speculative_decode",
    "generate",
    "head_drafter",
    "load",
    "lookup_drafter",
    "read_trace",
    "verify_speculation",
]

# The imports above, which type checkers read, once more for those who ask: the modules, and the names of each.
_ROOMS = {
    "api.batched": "batched_speculative_decode",
    "api.course": "verify_speculation",
    "api.decoder": "SpeculativeDecoder",
    "api.stream": "Generation TokenStream",
    "drafters.across.intersection": "IntersectionDrafter",
    "drafters.across.string": "StringDrafter",
    "drafters.base": "DraftedSequence Drafter Reading",
    "drafters.heads.loading": "head_drafter",
    "drafters.joint.drafter": "JointDrafter",
    "drafters.lookup.drafter": "LookupDrafter RecyclingDrafter",
    "drafters.lookup.loading": "lookup_drafter",
    "drafters.lookup.memories": "MemorySource",
    "drafters.lookup.suffixes": "SuffixSource",
    "drafters.model": "ModelDrafter",
    "drafters.model_tree": "ModelTreeDrafter",
    "drafters.recycling.memory": "RecyclingMemory",
    "drafters.recycling.source": "RecyclingSource",
    "drafters.several.chained": "Chained",
    "drafters.several.merged": "Merged",
    "drafters.suffix.drafter": "SuffixDrafter",
    "drafters.suffix.memory": "SuffixMemory",
    "drafters.suffix.tree": "SuffixTreeDrafter",
    "drafters.tree_shapes": "DynamicTree StaticTree",
    "engine.asynchronous": "AsyncEngine",
    "engine.engine": "Engine",
    "engine.events": "FinishReason Origin TokenEvent",
    "engine.handle": "Handle",
    "engine.record": "RoundRecord SequenceRound",
    "engine.statistics": "Statistics",
    "hosts.transformers": "generate",
    "lookahead": "Adaptive AdaptiveSpeculator CostCurve DraftingTraits Fixed Goodput LookaheadPolicy Outcome Times",
    "maths.budget": "Budget Prices",
    "maths.draft": "Draft",
    "maths.processors": "LogitsProcessor",
    "maths.sampling": "SamplingParams",
    "prompts.request": "Request",
    "runtimes.base": "Features Model Session",
    "runtimes.loading": "load",
    "runtimes.stateless": "FunctionModel",
    "runtimes.table": "TableModel",
    "trace": "TraceWriter read_trace",
}
_FOLDERS = (
    *("api", "bench", "check", "drafters", "engine", "hosts", "jobs", "lookahead", "maths", "prompts", "runtimes"),
    *("server", "structured", "text", "trace", "training", "values"),
)
_PLACES = {name: f"outrider.{room}" for room, names in _ROOMS.items() for name in names.split()}


if not TYPE_CHECKING:  # a type checker would let every name pass

    def __getattr__(name: str) -> Any:
        """Import a public name, or a room of the package, when it is first asked for; then it is an attribute."""
        if name in _PLACES:
            globals()[name] = found = getattr(importlib.import_module(_PLACES[name]), name)
            return found
        if name in _FOLDERS:
            return importlib.import_module(f"outrider.{name}")
        raise AttributeError(f"module 'outrider' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
