"""`python -m benchmarks peers`: other projects and systems of Outrider on the same questions, interleaved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from outrider.bench.systems import System
from outrider.cli.bench.questions import QuestionOptions, measure, open_target, show
from outrider.cli.bench.systems import DRAFTING, PLAIN, Named, SystemOptions
from outrider.cli.options.models import ModelOptions
from outrider.cli.options.output import TableOptions
from outrider.errors import SettingError
from outrider.runtimes.backends import Dtype
from outrider.runtimes.base import Model

TRANSFORMERS = ("transformers", "transformers-lookup")
LLAMA = ("llama-cpp-loop", "llama-cpp-python", "llama-cpp-lookup")
LOOKUPS = ("transformers-lookup", "llama-cpp-lookup")
LOOKUP_TOKENS = 10  # the default of LlamaPromptLookupDecoding; transformers has none


@dataclass(frozen=True, slots=True)
class PeerOptions(SystemOptions):
    """Which systems and peers to measure, and their common settings."""

    systems: Annotated[
        str,
        typer.Option(
            "--systems",
            help=f"What to measure, of {', '.join((PLAIN, *DRAFTING, *TRANSFORMERS, *LLAMA))}; the first is the "
            "baseline. suffix@4 drafts 4 tokens in every round; llama-cpp-lookup@2 is llama-cpp-python's prompt lookup "
            "with 2.",
        ),
    ] = "transformers,plain,suffix"
    peer_dtype: Annotated[
        Dtype, typer.Option("--peer-dtype", help="Precision in transformers, which has no packed weights.")
    ] = "bfloat16"


def command(asked: QuestionOptions, systems: PeerOptions, models: ModelOptions, table: TableOptions) -> None:
    """Compare other projects with systems of Outrider, interleaved question by question."""
    named = systems.named(models, (*TRANSFORMERS, *LLAMA), LOOKUPS)
    systems.sampling()
    questions = asked.read()
    _require_llama(named, models)
    target = open_target(models)
    built = {each.name: _open(each, systems, models, target) for each in named}
    show(measure(questions, built, target, asked.max_tokens), table)


def _require_llama(named: list[Named], models: ModelOptions) -> None:
    peer = next((each.name for each in named if each.kind in LLAMA), None)
    if peer is not None and models.target_backend != "llama":
        raise SettingError(f"--systems has {peer}, which runs GGUF files: give --backend llama, or leave it out")


def _open(named: Named, systems: PeerOptions, models: ModelOptions, target: Model) -> System:
    if named.kind in TRANSFORMERS:
        return _transformers(named, systems, models, target)
    if named.kind in LLAMA:
        return _llama(named, models, target)
    return systems.open(named, models, target)


def _transformers(named: Named, systems: PeerOptions, models: ModelOptions, target: Model) -> System:
    from benchmarks.peers.transformers import transformers_system
    from outrider.runtimes.torch.loading import open_reference

    reference = open_reference(models.model, systems.peer_dtype, models.runtime.device)
    return transformers_system(reference, sorted(target.traits.stop_token_ids), _lookup_tokens(named))


def _llama(named: Named, models: ModelOptions, target: Any) -> System:
    from benchmarks.peers.llamacpp import bare_loop_system, llama_cpp_python_system
    from outrider.runtimes.llamacpp.loading import find_file

    if named.kind == "llama-cpp-loop":
        return bare_loop_system(target)
    file = find_file(models.model, models.runtime.dtype or "auto", lambda message: None)
    return llama_cpp_python_system(file, target, _lookup_tokens(named))


def _lookup_tokens(named: Named) -> int | None:
    """How many tokens prompt lookup drafts; None for a system without it."""
    if named.kind not in LOOKUPS:
        return None
    return LOOKUP_TOKENS if named.lookahead is None else named.lookahead
