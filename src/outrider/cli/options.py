"""The flags that several commands share, and what they mean together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import outrider
from outrider.api.decoder import require_same_vocabulary
from outrider.cli.terminal import messages, working
from outrider.drafters.base import Drafter
from outrider.errors import InputError, SettingError
from outrider.runtimes.base import Model
from outrider.runtimes.loading import find_backend

SUFFIX_LOOKAHEAD = 16  # it stops by itself where its match is weak
MODEL_LOOKAHEAD = 4
TREE_LOOKAHEAD = 16
STANDARD_INPUT = "-"


class DrafterKind(StrEnum):
    """What drafts."""

    MODEL = "model"
    MODEL_TREE = "model-tree"
    MERGED = "merged"
    INTERSECTION = "intersection"
    STRING = "string"
    SUFFIX = "suffix"
    SUFFIX_TREE = "suffix-tree"
    NONE = "none"


class Rule(StrEnum):
    """How drafts are verified."""

    TOKEN = "token"
    BLOCK = "block"
    COUPLED = "coupled"


class Backend(StrEnum):
    """What runs a model."""

    AUTO = "auto"
    TORCH = "torch"
    LLAMA = "llama"
    MLX = "mlx"


class Dtype(StrEnum):
    """The precision of the weights; the last three are file types of llama.cpp."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"
    Q8_0 = "q8_0"
    Q4_1 = "q4_1"
    Q4_0 = "q4_0"


class CacheType(StrEnum):
    """The precision of keys and values in llama.cpp."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


class Colour(StrEnum):
    """When --show uses colours."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


# What drafts with a model, and as what.
MODEL_DRAFTERS: dict[DrafterKind, Callable[[Model, Model], Drafter]] = {
    DrafterKind.MODEL: lambda model, target: outrider.ModelDrafter(model),
    DrafterKind.MODEL_TREE: lambda model, target: outrider.ModelTreeDrafter(model),
    DrafterKind.MERGED: lambda model, target: outrider.Merged(
        [outrider.SuffixTreeDrafter(), outrider.ModelTreeDrafter(model)]
    ),
    DrafterKind.INTERSECTION: outrider.IntersectionDrafter,
    DrafterKind.STRING: outrider.StringDrafter,
}

LOOKAHEADS = {
    DrafterKind.SUFFIX: SUFFIX_LOOKAHEAD,
    DrafterKind.SUFFIX_TREE: TREE_LOOKAHEAD,
    DrafterKind.MODEL_TREE: TREE_LOOKAHEAD,
    DrafterKind.MERGED: TREE_LOOKAHEAD,
}
OF_TREES = (DrafterKind.SUFFIX_TREE, DrafterKind.MODEL_TREE, DrafterKind.MERGED)
# Those that read the text so far, and what is predicted.
OF_SUFFIXES = (DrafterKind.SUFFIX, DrafterKind.SUFFIX_TREE, DrafterKind.MERGED)


@dataclass(frozen=True, slots=True)
class Runtime:
    """How models are run, from the flags.

    Attributes:
        threads: of the CPU; None leaves it to the backend.
        cache_type: None is the backend's own.
        context_length: the longest text in tokens; None is what the target was made for.
        draft_backend: of the draft model.
    """

    backend: Backend = Backend.AUTO
    dtype: Dtype = Dtype.AUTO
    device: str = "auto"
    threads: int | None = None
    cache_type: CacheType | None = None
    context_length: int | None = None
    draft_backend: Backend = Backend.AUTO

    def backend_of(self, name: str) -> str:
        """What runs the target."""
        return find_backend(name) if self.backend is Backend.AUTO else self.backend

    def for_draft(self, name: str) -> Runtime:
        """How the draft model is run: like the target where the flags do not say, by what its files are for."""
        backend = self.draft_backend
        if backend is Backend.AUTO and find_backend(name) == Backend.TORCH:
            backend = self.backend
        like_target = backend is self.backend
        return replace(
            self,
            backend=backend,
            dtype=self.dtype if like_target else Dtype.AUTO,
            cache_type=self.cache_type if like_target else None,
            context_length=None,
        )


# The headings under which --help lists the flags.
MODELS = "Models"
SPECULATION = "Speculation"
SAMPLING = "Sampling"
PROMPT = "Prompt"
OUTPUT = "Output"


def option(panel: str, names: str, metavar: str | None, help: str) -> Any:
    """A flag under a heading of --help; `metavar` None for one that takes no value."""
    return typer.Option(*names.split(), metavar=metavar, help=help, rich_help_panel=panel)


ModelOption = Annotated[
    str, option(MODELS, "--model -m", "NAME", "The target: a folder, a GGUF file, a Hugging Face name, or smollm2.")
]
DraftModelOption = Annotated[str | None, option(MODELS, "--draft-model -md", "NAME", "A smaller model that drafts.")]
BackendOption = Annotated[
    Backend,
    option(MODELS, "--backend", "NAME", "What runs the models: torch, llama, mlx, or auto: what their files are for."),
]
DraftBackendOption = Annotated[
    Backend, option(MODELS, "--draft-backend", "NAME", "What runs the draft model. Default: the same.")
]
DtypeOption = Annotated[
    Dtype,
    option(
        MODELS,
        "--dtype",
        "TYPE",
        "Precision: auto (what is fast here), float32, bfloat16, float16 or int8; for smollm2 in llama.cpp also q8_0, "
        "q4_1 or q4_0.",
    ),
]
CacheTypeOption = Annotated[
    CacheType | None,
    option(MODELS, "--cache-type", "TYPE", "Keys and values in llama.cpp: float32, float16, q8_0 or q4_0."),
]
ContextOption = Annotated[
    int | None, option(MODELS, "--ctx-size -c", "N", "The longest text, in tokens. Default: the model's context.")
]
DeviceOption = Annotated[str, option(MODELS, "--device", "NAME", "auto, cpu, cuda, cuda:1, mps ...")]
ThreadsOption = Annotated[int | None, option(MODELS, "--threads -t", "N", "Threads of the CPU to compute with.")]
DrafterOption = Annotated[
    DrafterKind | None,
    option(
        SPECULATION,
        "--drafter",
        "KIND",
        "model, suffix or none; model-tree and suffix-tree draft several continuations at once, merged joins the "
        "trees of both. For a draft model with another tokenizer: intersection, of the two vocabularies, or "
        "string, which drafts any text. Default: model if --draft-model is given, else suffix.",
    ),
]
TreeOption = Annotated[
    str | None,
    option(
        SPECULATION,
        "--tree",
        "WIDTHS",
        "Draft trees of this shape, children per node level by level: 3,2,1. Default for model-tree: where the draft "
        "model expects to be right.",
    ),
]
LOOKAHEAD_FLAGS = "--num-draft-tokens --draft-max"
LookaheadOption = Annotated[
    int | None,
    option(
        SPECULATION,
        LOOKAHEAD_FLAGS,
        "N",
        f"The lookahead, in tokens. Default: {MODEL_LOOKAHEAD} for a model, {SUFFIX_LOOKAHEAD} for suffix and trees.",
    ),
]
RuleOption = Annotated[
    Rule, option(SPECULATION, "--rule", "NAME", "How drafts are verified: token, block or coupled. All are exact.")
]
VerboseOption = Annotated[bool, option(OUTPUT, "--verbose -v", None, "Show where an error comes from.")]
JsonOption = Annotated[bool, option(OUTPUT, "--json", None, "Print one JSON object, for programs.")]


def resolve_drafter(kind: DrafterKind | None, draft_model: str | None) -> DrafterKind:
    """What drafts, from the two flags.

    Raises:
        SettingError: they contradict each other.
    """
    if kind is None:
        return DrafterKind.MODEL if draft_model is not None else DrafterKind.SUFFIX
    if kind in MODEL_DRAFTERS and draft_model is None:
        raise SettingError(f"--drafter {kind} needs to know which model: give --draft-model as well")
    if kind not in MODEL_DRAFTERS and draft_model is not None:
        raise SettingError(f"--draft-model is given and --drafter is {kind}: leave one of them out")
    return kind


def resolve_lookahead(kind: DrafterKind, given: int | None) -> int | None:
    """The lookahead from the flag; None chooses by measured goodput.

    Raises:
        SettingError: it is below 0, or there is no drafter that it could concern.
    """
    if given is not None and given < 0:
        raise SettingError(f"--num-draft-tokens is {given}: it must be at least 0 (0 decodes plainly)")
    if given and kind is DrafterKind.NONE:
        raise SettingError(f"--num-draft-tokens is {given} and --drafter is none: leave one of them out")
    return 0 if kind is DrafterKind.NONE else given


def fixed_lookahead(kind: DrafterKind, given: int | None) -> int:
    """The lookahead as a number, from the flag or the drafter's own default.

    Raises:
        SettingError: as resolve_lookahead.
    """
    lookahead = resolve_lookahead(kind, given)
    if lookahead is not None:
        return lookahead
    return LOOKAHEADS.get(kind, MODEL_LOOKAHEAD)


def say_whether_reproducible(rule: str, lookahead: object) -> None:
    """A line where a seed does not settle what is drawn. `lookahead` None is chosen by measured goodput."""
    if rule != Rule.COUPLED and lookahead is None:
        messages().print(
            f"--rule {rule} draws other tokens where the lookahead is another, and it is chosen by measured time: for "
            "the same text from the same --seed add --rule coupled, or --num-draft-tokens N",
            style="dim",
        )


def open_model(name: str, runtime: Runtime) -> Model:
    """Load a model, with a spinner, and keep the libraries' own chatter off the terminal."""
    if runtime.threads is not None and runtime.threads < 1:
        raise SettingError(f"--threads is {runtime.threads}: it must be at least 1")
    with working(f"opening {name}") as say:
        return outrider.load(
            name,
            backend=runtime.backend,
            dtype=runtime.dtype,
            device=runtime.device,
            threads=runtime.threads,
            cache_type=runtime.cache_type,
            context_length=runtime.context_length,
            progress=say,
        )


def resolve_tree(tree: str | None, kind: DrafterKind, rule: Rule) -> outrider.StaticTree | None:
    """The shape that --tree asks for; None where it is not given.

    Raises:
        SettingError: it is no list of widths, or does not go with the drafter; or trees do not go with the rule.
    """
    if kind in OF_TREES and rule is Rule.BLOCK:
        raise SettingError(f"--rule block judges chains and --drafter {kind} drafts trees: use --rule token or coupled")
    if tree is None:
        return None
    if kind is not DrafterKind.MODEL_TREE:
        raise SettingError(f"--tree is for --drafter model-tree and --drafter is {kind}: change one of them")
    try:
        return outrider.StaticTree(tuple(int(width) for width in tree.split(",")))
    except ValueError as error:
        raise SettingError(f"--tree is {tree!r}: give children per node level by level, such as 3,2,1") from error


def open_drafter(
    kind: DrafterKind,
    draft_model: str | None,
    target: Model,
    runtime: Runtime,
    tree: outrider.StaticTree | None = None,
) -> Drafter | None:
    """The drafter that the flags ask for; None decodes plainly."""
    if kind is DrafterKind.NONE:
        return None
    if kind is DrafterKind.SUFFIX:
        return outrider.SuffixDrafter()
    if kind is DrafterKind.SUFFIX_TREE:
        return outrider.SuffixTreeDrafter()
    assert draft_model is not None
    model = open_model(draft_model, runtime.for_draft(draft_model))
    if kind not in (DrafterKind.INTERSECTION, DrafterKind.STRING):
        require_same_vocabulary(model, target)
    return MODEL_DRAFTERS[kind](model, target) if tree is None else outrider.ModelTreeDrafter(model, tree)


def read_prompt(prompt: str | None, file: Path | None) -> str:
    """The prompt, from the argument, a file, or standard input.

    Raises:
        InputError: there is none, it is empty, it is given twice, or it cannot be read.
    """
    if prompt is not None and file is not None:
        raise InputError("a prompt and --file are both given: leave one of them out")
    if file is not None:
        text = read_text(file)
    elif prompt == STANDARD_INPUT:
        text = _read_standard_input()
    elif prompt is not None:
        text = prompt
    elif sys.stdin is None or sys.stdin.isatty():
        raise InputError("there is no prompt: give it as an argument, with --file, or on standard input")
    else:
        text = _read_standard_input()
    if not text.strip():
        raise InputError("the prompt is empty: give at least one word")
    return text


def read_text(file: Path) -> str:
    """The text of a file, or of standard input for "-".

    Raises:
        InputError: it cannot be read.
    """
    return _read_standard_input() if str(file) == STANDARD_INPUT else read_file(file)


def _read_standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise InputError(f"standard input cannot be read as text: {error}") from error


def read_file(file: Path) -> str:
    """The text of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"file {file} does not exist: check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"file {file} cannot be read as text: {error}") from error
