"""The flags that several commands share, and what they mean together."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import outrider
from outrider.cli.terminal import working
from outrider.decoder import require_same_vocabulary
from outrider.drafters.base import Drafter
from outrider.errors import InputError, SettingError
from outrider.models.base import Model

SUFFIX_LOOKAHEAD = 16  # it stops by itself where its match is weak
MODEL_LOOKAHEAD = 4


class DrafterKind(StrEnum):
    """What drafts."""

    MODEL = "model"
    SUFFIX = "suffix"
    NONE = "none"


class Rule(StrEnum):
    """How drafts are verified."""

    TOKEN = "token"
    BLOCK = "block"
    COUPLED = "coupled"


class Dtype(StrEnum):
    """The precision of the weights."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"


ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="The target: a folder, a GGUF file, a Hugging Face name, or smollm2.")
]
DraftModelOption = Annotated[
    str | None, typer.Option("--draft-model", "-md", help="A smaller model of the same vocabulary that drafts.")
]
DrafterOption = Annotated[
    DrafterKind | None,
    typer.Option("--drafter", help="What drafts. Default: model if --draft-model is given, else suffix."),
]
LookaheadOption = Annotated[
    int | None,
    typer.Option(
        "--num-draft-tokens",
        "--draft-max",
        help=f"The lookahead, in tokens. Default: {MODEL_LOOKAHEAD} for a model, {SUFFIX_LOOKAHEAD} for suffix.",
    ),
]
RuleOption = Annotated[Rule, typer.Option("--rule", help="How drafts are verified; all are exact.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Precision of the weights; auto is what is fast here.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps ...")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", "-t", help="Threads of the CPU to compute with.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show where an error comes from.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]


def resolve_drafter(kind: DrafterKind | None, draft_model: str | None) -> DrafterKind:
    """What drafts, from the two flags.

    Raises:
        SettingError: they contradict each other.
    """
    if kind is None:
        return DrafterKind.MODEL if draft_model is not None else DrafterKind.SUFFIX
    if kind is DrafterKind.MODEL and draft_model is None:
        raise SettingError("--drafter model needs to know which: give --draft-model as well")
    if kind is not DrafterKind.MODEL and draft_model is not None:
        raise SettingError(f"--draft-model is given and --drafter is {kind}: leave one of them out")
    return kind


def resolve_lookahead(kind: DrafterKind, given: int | None) -> int:
    """The lookahead, from the flag or the drafter's own default.

    Raises:
        SettingError: it is below 0.
    """
    if given is not None and given < 0:
        raise SettingError(f"--num-draft-tokens is {given}: it must be at least 0 (0 decodes plainly)")
    if given is not None:
        return given
    return SUFFIX_LOOKAHEAD if kind is DrafterKind.SUFFIX else MODEL_LOOKAHEAD


def open_model(name: str, dtype: Dtype, device: str, threads: int | None = None) -> Model:
    """Load a model, with a spinner, and keep the libraries' own chatter off the terminal."""
    if threads is not None and threads < 1:
        raise SettingError(f"--threads is {threads}: it must be at least 1")
    with working(f"opening {name}") as say:
        model = outrider.load(name, dtype=dtype, device=device, progress=say)
    if threads is not None and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return model


def open_drafter(
    kind: DrafterKind, draft_model: str | None, target: Model, dtype: Dtype, device: str
) -> Drafter | None:
    """The drafter that the flags ask for; None decodes plainly."""
    if kind is DrafterKind.NONE:
        return None
    if kind is DrafterKind.SUFFIX:
        return outrider.SuffixDrafter()
    assert draft_model is not None
    model = open_model(draft_model, dtype, device)
    require_same_vocabulary(model, target)
    return outrider.ModelDrafter(model)


def read_prompt(prompt: str | None, file: Path | None) -> str:
    """The prompt, from the argument, a file, or standard input.

    Raises:
        InputError: there is none, it is empty, it is given twice, or the file cannot be read.
    """
    if prompt is not None and prompt != "-" and file is not None:
        raise InputError("a prompt and --file are both given: leave one of them out")
    if file is not None:
        text = read_file(file)
    elif prompt is None and sys.stdin.isatty():
        raise InputError("there is no prompt: give it as an argument, with --file, or on standard input")
    elif prompt is None or prompt == "-":
        text = sys.stdin.read()
    else:
        text = prompt
    if not text.strip():
        raise InputError("the prompt is empty: give at least one word")
    return text


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
