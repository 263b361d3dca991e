"""`outrider train`: a drafter for any model, on texts that it writes itself."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outrider.cli.options.group import option
from outrider.cli.options.models import RuntimeOptions
from outrider.cli.options.training import StudentOptions
from outrider.cli.terminal import messages, reporting_bar, working
from outrider.cli.writing import OPENINGS, encoded, make_folder, prompts_of, write_texts
from outrider.drafters.lookup.loading import fingerprint
from outrider.errors import InputError, ModelError, SettingError
from outrider.runtimes.base import Model
from outrider.runtimes.files.places import find_place, is_gguf
from outrider.runtimes.files.smollm2 import SMOLLM2, smollm2_file
from outrider.training.library import Library
from outrider.training.shards import Text, read_shard, shards_of
from outrider.training.synthesis import SynthesisSettings, answered, opened_at_the_user, self_written, users_turn_of
from outrider_command import INTERRUPTED

if TYPE_CHECKING:
    from outrider.training.heads.making import Made
    from outrider.training.heads.trainer import Progress

WRITING = 0.4  # of the time, where no texts are given
LONGEST_WRITING = 0.75
TOO_SELDOM = 0.2  # of the first draft tokens: a draft then brings less than it takes
FEWEST_MINUTES = 0.05
TEMPERATURES = (0.0, 0.0, 0.7, 1.0)  # of answers: half of them are the most probable ones
TEXTS = "texts"  # the folder of what the model wrote


def command(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The model to draft for: a folder, a name, smollm2.")],
    runtime: RuntimeOptions,
    student: StudentOptions,
    out: Annotated[Path, option("--out", "DIR", "Where the drafter goes. A run that was ended early goes on there.")],
    minutes: Annotated[
        float, option("--minutes", "N", "How long it may take in all, writing and earlier runs in --out included.")
    ] = 30.0,
    write_minutes: Annotated[
        float | None,
        option("--write-minutes", "N", "How much of it the model writes. Default: 0.4 of it; none with --data."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        option("--data", "DIR", "Learn from these texts of earlier runs, of warm or train. May come several times."),
    ] = None,
    input: Annotated[
        Path | None,
        option("--input", "FILE", "Answer these prompts, as of generate --input. Default: what the model asks itself."),
    ] = None,
    max_rows: Annotated[int, option("--max-rows", "N", "Texts at once.")] = 32,
    seed: Annotated[int, option("--seed", "N", "Of questions, and of the order of the texts.")] = 0,
) -> int:
    """Train a drafter, a draft head or a small model, on what the model writes itself."""
    if not minutes >= FEWEST_MINUTES:
        raise SettingError(f"--minutes is {minutes}: it must be at least {FEWEST_MINUTES}")
    if write_minutes is not None and not 0 <= write_minutes <= minutes:
        raise SettingError(f"--write-minutes is {write_minutes}: it must be from 0 to --minutes, {minutes:g}")
    if max_rows < 1:
        raise SettingError(f"--max-rows is {max_rows}: it must be at least 1")
    student.check()
    clock = _Clock(time.monotonic(), minutes)
    prompts = None if input is None else prompts_of(input)
    for folder in data or ():
        if not folder.is_dir():
            raise InputError(f"--data {folder} is no folder: give one with texts, of warm or train")
    own = out / TEXTS
    make_folder(out)
    make_folder(own)
    model = runtime.open(target)
    if student.drafter == "head":
        _require_trainable(model)
    tokenizer = fingerprint(model)
    library = Library([*(data or ()), own], tokenizer)
    library.refresh()
    clock.earlier = sum(read_shard(path).seconds for path in shards_of(own))
    try:
        share = (WRITING * minutes if not data else 0.0) if write_minutes is None else write_minutes
        left = share - clock.earlier / 60
        if left > 0:
            asked = None if prompts is None else encoded(prompts, model)
            unlike = seed + len(library)
            settings = SynthesisSettings(max_rows, openings=OPENINGS, temperatures=TEMPERATURES, seed=unlike)
            texts = _texts_of(model, asked, library, settings)
            # A slow target may take more of the time, up to three quarters, until there are enough texts.
            end = (1 - LONGEST_WRITING) * 60 * minutes
            write_texts(texts, left, library.add, own, tokenizer, lambda: library.suffices or clock.left < end)
        line = ["outrider", "train", target, "--out", str(out), "--minutes", f"{minutes:g}", *student.flags]
        line += [word for folder in data or () for word in ("--data", str(folder))]
        line += [] if input is None else ["--input", str(input)]
        line += [] if write_minutes is None else ["--write-minutes", f"{write_minutes:g}"]
        made, drawn = _train(target, model, library, out, student, clock, seed, shlex.join(line))
    except KeyboardInterrupt:
        messages().print(f"stopped: the same command goes on from what {out} holds", style="dim")
        return INTERRUPTED
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}): choose another folder") from error
    first, best = made.curve[0], max(made.curve, key=lambda measured: measured.worth)
    shown = ", ".join(f"{share:.0%}" for share in best.agreement)
    messages().print(
        f"from {made.tokens:,} tokens: the drafter's token is the target's in {shown} of cases, by place in "
        f"the draft ({first.agreement[0]:.1%} at first): {out}" + ("" if drawn else "; no picture without matplotlib"),
        style="dim",
        highlight=False,
    )
    if best.agreement[0] < TOO_SELDOM:
        messages().print("that is too seldom to be faster: the same command with more --minutes goes on", style="dim")
    return 0


@dataclass
class _Clock:
    """How much time there is.

    Attributes:
        started: this run.
        minutes: in all.
        earlier: seconds of earlier runs.
    """

    started: float
    minutes: float
    earlier: float = 0.0

    @property
    def left(self) -> float:
        """Seconds."""
        return 60 * self.minutes - self.earlier - (time.monotonic() - self.started)


def _texts_of(
    model: Model, asked: Sequence[Sequence[int]] | None, library: Library, settings: SynthesisSettings
) -> Iterator[list[Text]]:
    """What a model writes that the library does not know yet."""
    if asked is None:
        users_turn_of(model)
        return self_written(model, settings, library.knows)
    new = [prompt for prompt in map(tuple, asked) if not library.knows(prompt)]
    return answered(model, list(dict.fromkeys(new)), settings)


def _require_trainable(model: Model) -> None:
    try:
        from outrider.training.heads.making import require_trainable
    except ImportError as error:
        raise ModelError("drafters are trained by PyTorch: pip install 'outrider[torch]'") from error
    require_trainable(model)


def _train(
    target: str,
    model: Model,
    library: Library,
    out: Path,
    student: StudentOptions,
    clock: _Clock,
    seed: int,
    line: str,
) -> tuple[Made, bool]:
    """Train, and write all files; and whether the curve was drawn. `line` is the command, for the card."""
    from outrider.training.heads.card import CURVE, Account, draw_curve, write_card
    from outrider.training.heads.checkpoint import read_checkpoint
    from outrider.training.heads.making import batch_for, make_head
    from outrider.training.models.making import make_model

    found = read_checkpoint(out)
    before = 0.0 if found is None else float(found.progress["seconds"])
    clock.earlier += before
    settings = student.settings(model, batch_for(library.learned), before + max(clock.left, 0.0), seed)
    opening = () if model.tokenizer is None else opened_at_the_user(model.tokenizer) or ()
    with progress_told(settings.seconds) as tell:
        if student.drafter == "head":
            made = make_head(model, library, opening, out, settings, student.head_sizes, found, tell)
        else:
            made = make_model(model, library, opening, out, settings, student.model_sizes, found, tell)
    if student.drafter == "model":
        _write_tokenizer(target, out, student.gguf)
    minutes = made.curve[-1].seconds / 60
    sizes = (made.tokens, made.parameters, made.vocabulary)
    write_card(out, Account(model.name, line, *sizes, minutes, student.objective, student.drafter), made.curve)
    return made, draw_curve(out / CURVE, made.curve)


def _write_tokenizer(target: str, out: Path, gguf: Path | None) -> None:
    """The target's tokenizer beside a small model, and the model as a GGUF file where a tokenizer for it is known."""
    from outrider.training.models.making import write_as_gguf, write_tokenizer

    with working("looking for the tokenizer") as say:
        files = find_place(target, say).path
    if not write_tokenizer(files, out):
        messages().print(
            f"no tokenizer is written beside the model: transformers reads none in {files.name}", style="dim"
        )
    if gguf is None:
        gguf = smollm2_file() if target == SMOLLM2 else files if is_gguf(files) else None
    if gguf is None:
        messages().print(f"no GGUF file is written: {target} is none; for one give --gguf FILE", style="dim")
    else:
        write_as_gguf(out, gguf)


@contextmanager
def progress_told(seconds: float) -> Iterator[Callable[[Progress], None]]:
    """Shows how a training goes: as a bar where somebody is looking, and by a line for each measurement."""
    console = messages()
    with reporting_bar("training", seconds, console) as advance:
        told, measured = 0.0, 0

        def tell(progress: Progress) -> None:
            nonlocal told, measured
            last = progress.curve[-1]
            state = f"step {progress.steps}, {last.agreement[0]:.1%} right"
            advance(progress.seconds - told, state)
            told = progress.seconds
            if len(progress.curve) > measured:
                measured = len(progress.curve)
                shares = ", ".join(f"{share:.1%}" for share in last.agreement)
                loss = "" if isnan(last.loss) else f", loss {last.loss:.2f}"  # before the first step there is none
                console.print(
                    f"{last.seconds / 60:.1f} minutes, step {progress.steps}: {shares} of the target's tokens{loss}",
                    style="dim",
                )

        yield tell
