"""Outrider: exact, self-tuning speculative decoding.

    import outrider

    decoder = outrider.SpeculativeDecoder(outrider.SuffixDrafter(), "smollm2")
    print(decoder.generate("The capital of France is").text)

Backends (PyTorch, MLX, llama.cpp) are imported when a model of theirs is opened, never before.
"""

import logging

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
from outrider.errors import (
    BatchError,
    InputError,
    ModelError,
    OutriderError,
    QueueFullError,
    SettingError,
    VocabularyError,
)
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
