"""`outrider check`: is speculative output what plain decoding says, token for token? Files go to cli/learner.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from outrider.api.decoder import SpeculativeDecoder
from outrider.check.against_plain import (
    Answer,
    Decode,
    LogitsAfter,
    Outcome,
    compare,
    logits_of,
    outrider_greedy,
)
from outrider.cli.check_report import show
from outrider.cli.learner import SolutionOptions, check_file
from outrider.cli.options.drafters import NONE
from outrider.cli.options.drafting import DraftingOptions
from outrider.cli.options.group import option
from outrider.cli.options.models import ModelOptions
from outrider.cli.options.output import OUTPUT, JsonOption
from outrider.cli.options.prompt import PROMPT
from outrider.cli.render import print_json
from outrider.cli.terminal import counting_bar, messages
from outrider.errors import SettingError
from outrider.prompts.chat import Chat, encode_within
from outrider.prompts.files import FilePrompt, parse_prompts, read_prompts
from outrider.runtimes.backends import Dtype, is_installed
from outrider.runtimes.base import Model
from outrider.runtimes.files.places import stands_in_a_file

BUILT_IN_NAME = "prompts.txt"
BUILT_IN = """
Explain in three sentences why the sky is blue.
Write a short story about a lighthouse keeper who collects clocks.
List the planets of the solar system with one fact about each.
Translate into French: The train leaves at seven, and nobody is late.
Write a Python function that returns the n-th Fibonacci number, and explain it line by line.
"""
FAILED = 1
MARGIN = 1e-4
MARGIN_OF_LLAMA = 0.5  # quantised weights, activations in int8, keys and values in float16

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """On what is compared, and how strictly.

    Attributes:
        margin: in logits; None is the backend's default.
    """

    prompts: Annotated[
        Path | None,
        option("--prompts", "FILE", "Text with a prompt a line, JSON lines, or Spec-Bench questions.", PROMPT),
    ] = None
    limit: Annotated[int, option("--limit", "N", "The most prompts, spread evenly over the file.", PROMPT)] = 20
    max_tokens: Annotated[int, option("--max-tokens -n", "N", "Tokens per prompt.", PROMPT)] = 64
    margin: Annotated[
        float | None,
        option(
            "--margin",
            "X",
            f"Logit margins below this are rounding. Default: {MARGIN:g}, in llama.cpp {MARGIN_OF_LLAMA:g}.",
            OUTPUT,
        ),
    ] = None
    json: JsonOption = False
    # What this command did under version 0.1 only with this flag, it now always does.
    against_plain: Annotated[bool, typer.Option("--against-plain", hidden=True)] = False

    def check(self) -> None:
        """Raises SettingError where a value is out of its range."""
        for name, value in (("--limit", self.limit), ("--max-tokens", self.max_tokens)):
            if value < 1:
                raise SettingError(f"{name} is {value}: it must be at least 1")
        if self.margin is not None and not self.margin >= 0:  # also a NaN
            raise SettingError(f"--margin is {self.margin}: it must be at least 0")

    def read(self) -> list[FilePrompt]:
        """The prompts to compare on.

        Raises:
            InputError: the file cannot be read, or holds none.
        """
        found = parse_prompts(BUILT_IN, BUILT_IN_NAME) if self.prompts is None else read_prompts(self.prompts)
        return evenly(found, self.limit)


def command(solution: SolutionOptions, options: CheckOptions, models: ModelOptions, drafting: DraftingOptions) -> int:
    """Compare greedy output, token for token, with plain decoding; or check a FILE.py of your own."""
    solution.check()
    options.check()
    if solution.solution is not None:
        if (replace(options, json=False), models, drafting) != (CheckOptions(), ModelOptions(), DraftingOptions()):
            raise SettingError(f"{solution.solution} is checked on small tables: leave out flags of models and prompts")
        return check_file(solution, options.json)
    models = _settled(models)
    kind = drafting.kind(models)
    lookahead = drafting.lookahead(kind)
    if kind.name == NONE:
        raise SettingError("check compares a drafter with plain decoding and --drafter is none: give another")
    asked = options.read()
    target = models.open_target()
    prompts = _encoded(asked, target, options.max_tokens)
    drafter = kind.open(models.open_draft, target)
    peers, judge = _peers(target, models)
    systems = {
        **peers,
        "outrider plain": outrider_greedy(SpeculativeDecoder(None, target, 0)),
        f"outrider {kind}": outrider_greedy(SpeculativeDecoder(drafter, target, lookahead, rule=drafting.rule)),
    }
    margin = _margin(options, models)
    outcomes: list[Outcome] = []
    with counting_bar("checking") as progress:
        found = compare(prompts, systems, judge, max_tokens=options.max_tokens, margin=margin)
        for number, of_prompt in enumerate(found, start=1):
            outcomes += of_prompt
            progress(number, len(prompts))
    passed = all(outcome.passed for outcome in outcomes)
    if options.json:
        print_json({"passed": passed, "margin": margin, "outcomes": [asdict(outcome) for outcome in outcomes]})
    else:
        show(outcomes, target, [prompt.text for prompt in asked], margin, str(models.runtime.dtype))
    return 0 if passed else FAILED


def _settled(models: ModelOptions) -> ModelOptions:
    """The same with the precision that is the default here: rounding matters."""
    if models.runtime.dtype is not None:
        return models
    backend = models.target_backend
    in_float32 = backend == "torch" or (backend == "native" and not stands_in_a_file(models.model))
    dtype: Dtype = "float32" if in_float32 else "auto"
    return replace(models, runtime=replace(models.runtime, backend=backend, dtype=dtype))


def _margin(options: CheckOptions, models: ModelOptions) -> float:
    if options.margin is not None:
        return options.margin
    return MARGIN_OF_LLAMA if models.target_backend == "llama" else MARGIN


def _encoded(asked: Sequence[FilePrompt], target: Model, max_tokens: int) -> list[tuple[int, ...]]:
    """The prompts' tokens; texts are cut where they leave no room for max_tokens."""
    if max_tokens >= target.traits.context_length:
        raise SettingError(
            f"--max-tokens is {max_tokens} and the context of {target.name} holds {target.traits.context_length}: "
            "give less"
        )
    room = target.traits.context_length - max_tokens
    return [encode_within(one.request.prompt, target.tokenizer, target.name, room, Chat()) for one in asked]


def evenly(texts: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of them, at even distances."""
    count = min(limit, len(texts))
    return [texts[index * len(texts) // count] for index in range(count)]


def _peers(target: Any, models: ModelOptions) -> tuple[dict[str, Decode], LogitsAfter]:
    """The runtime's own greedy decoding, by name, and the logits that margins are measured in."""
    backend = models.target_backend
    if backend == "llama":
        return _llama_cpp(target), logits_of(target)
    if backend == "native" and not (models.runtime.dtype == "float32" and not stands_in_a_file(models.model)):
        return {}, logits_of(target)  # transformers has no such numbers to compare with
    if backend == "mlx":
        return _mlx_lm(target), logits_of(target)
    if not is_installed("torch"):
        messages().print("PyTorch and transformers are not installed: comparing with plain decoding only")
        return {}, logits_of(target)
    return _transformers(target, models.model, str(models.runtime.dtype), models.runtime.device)


def _llama_cpp(target: Any) -> dict[str, Decode]:
    """llama.cpp's own greedy decoding."""
    from outrider.runtimes.llamacpp.reference import BareLoop

    loop = BareLoop(target)
    return {"llama.cpp": lambda prompt, max_tokens: Answer(list(loop.stream(prompt, max_tokens)))}


def _mlx_lm(target: Any) -> dict[str, Decode]:
    """mlx-lm's own greedy decoding."""
    from outrider.runtimes.mlx.loading import greedy_generate

    generate = greedy_generate(target)
    return {"mlx-lm": lambda prompt, max_tokens: Answer(generate(prompt, max_tokens))}


def _transformers(target: Model, name: str, dtype: str, device: str) -> tuple[dict[str, Decode], LogitsAfter]:
    """transformers' own greedy `generate`, where it computes in the same precision; and its logits in float32."""
    from outrider.runtimes.torch.loading import greedy_generate, open_reference
    from outrider.runtimes.torch.model import TransformersModel

    same = dtype in ("float32", "bfloat16") or target.device.type != "cpu"  # type: ignore[attr-defined]
    reference = open_reference(name, dtype, device) if same else None

    @cache
    def judge() -> LogitsAfter:
        # Opened for the first difference only. Not the model that is checked: it may be what is wrong.
        in_float32 = reference if dtype == "float32" else open_reference(name, "float32", device)
        return logits_of(TransformersModel(in_float32, name=name))

    def logits_after(tokens: Sequence[int]) -> Any:
        return judge()(tokens)

    if reference is None:
        messages().print(f"transformers has no {dtype} like Outrider's: comparing with plain decoding only")
        return {}, logits_after
    generate = greedy_generate(reference, target.traits.stop_token_ids)
    return {"transformers": lambda prompt, max_tokens: Answer(generate(prompt, max_tokens))}, logits_after
