"""Outrider: exact, self-tuning speculative decoding.

    import outrider

    decoder = outrider.SpeculativeDecoder(outrider.SuffixDrafter(), "smollm2")
    print(decoder.generate("The capital of France is").text)

Backends (PyTorch, MLX, llama.cpp) are imported when a model of theirs is opened, never before.
"""

from outrider.decoder import Generation, SpeculativeDecoder, TokenStream, verify_speculation
from outrider.draft import Draft
from outrider.drafters.base import DraftedSequence, Drafter
from outrider.drafters.model import ModelDrafter
from outrider.drafters.suffix import SuffixDrafter
from outrider.engine.engine import Engine
from outrider.engine.request import FinishReason, Origin, Request, TokenEvent
from outrider.engine.statistics import Statistics
from outrider.errors import InputError, ModelError, OutriderError, SettingError, VocabularyError
from outrider.lookahead import Adaptive, AdaptiveSpeculator, Fixed, LookaheadPolicy
from outrider.models.base import Model, Session
from outrider.models.loading import load
from outrider.models.stateless import FunctionModel
from outrider.models.table import TableModel
from outrider.sampling import SamplingParams

__version__ = "0.1.0"

__all__ = [
    "Adaptive",
    "AdaptiveSpeculator",
    "Draft",
    "DraftedSequence",
    "Drafter",
    "Engine",
    "FinishReason",
    "Fixed",
    "FunctionModel",
    "Generation",
    "InputError",
    "LookaheadPolicy",
    "Model",
    "ModelDrafter",
    "ModelError",
    "Origin",
    "OutriderError",
    "Request",
    "SamplingParams",
    "Session",
    "SettingError",
    "SpeculativeDecoder",
    "Statistics",
    "SuffixDrafter",
    "TableModel",
    "TokenEvent",
    "TokenStream",
    "VocabularyError",
    "load",
    "verify_speculation",
]
