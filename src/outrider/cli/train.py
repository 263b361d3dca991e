"""`outrider train`: a draft head for any model, on texts that it writes itself."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from outrider.cli.options.group import option
from outrider.cli.options.models import RuntimeOptions
from outrider.cli.terminal import messages
from outrider.cli.writing import OPENINGS, bar, encoded, make_folder, prompts_of, write_texts
from outrider.drafters.lookup.loading import fingerprint
from outrider.errors import InputError, ModelError, SettingError
from outrider.training.shards import read_shards
from outrider.training.synthesis import SynthesisSettings, answered, self_written, users_turn_of

WRITING = 0.4  # of the time, where nothing is written yet
FEWEST_MINUTES = 0.05
OBJECTIVES = ("kl", "accept", "hybrid")


def command(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The model to draft for: a folder, a name, smollm2.")],
    runtime: RuntimeOptions,
    out: Annotated[Path, option("--out", "DIR", "Where the head goes. A run that was killed goes on there.")],
    minutes: Annotated[float, option("--minutes", "N", "How long it may take, writing included.")] = 30.0,
    data: Annotated[
        Path | None, option("--data", "DIR", "Texts of earlier runs, of warm or train; new ones are added.")
    ] = None,
    input: Annotated[
        Path | None,
        option("--input", "FILE", "Answer these prompts, as of generate --input. Default: what the model asks itself."),
    ] = None,
    vocabulary: Annotated[int, option("--vocabulary", "N", "The most tokens that the head can draft.")] = 8192,
    objective: Annotated[str, option("--objective", "NAME", f"{', '.join(OBJECTIVES)}.")] = "kl",
    max_rows: Annotated[int, option("--max-rows", "N", "Texts at once.")] = 32,
    seed: Annotated[int, option("--seed", "N", "Of questions, and of the order of the texts.")] = 0,
) -> int:
    """Train a draft head on what the model writes itself."""
    if not minutes >= FEWEST_MINUTES:
        raise SettingError(f"--minutes is {minutes}: it must be at least {FEWEST_MINUTES}")
    if vocabulary < 1 or max_rows < 1:
        raise SettingError(f"--vocabulary is {vocabulary} and --max-rows {max_rows}: both must be at least 1")
    if objective not in OBJECTIVES:
        raise SettingError(f"--objective is {objective!r}: choose one of {', '.join(OBJECTIVES)}")
    started = time.monotonic()
    prompts = None if input is None else prompts_of(input)
    shards = out / "texts" if data is None else data
    make_folder(out)
    make_folder(shards)
    model = runtime.open(target)
    try:
        from outrider.training.heads.card import CURVE, Account, draw_curve, write_card
        from outrider.training.heads.making import make_head, require_trainable, settings_for
        from outrider.training.heads.trainer import CHECKPOINT, Progress
    except ImportError as error:
        raise ModelError("heads are trained by PyTorch: pip install 'outrider[torch]'") from error
    require_trainable(model)
    asked = None if prompts is None else encoded(prompts, model)
    texts = list(read_shards(shards, fingerprint(model)))
    resumed = (out / CHECKPOINT).exists()
    if not resumed and (not texts or data is None or asked is not None):
        if asked is None:
            users_turn_of(model)
        settings = SynthesisSettings(rows=max_rows, openings=OPENINGS, seed=seed + len(texts))
        written = self_written(model, settings) if asked is None else answered(model, asked, settings)
        write_texts(written, minutes * WRITING, texts.append, shards, fingerprint(model))
    left = max(60 * minutes - (time.monotonic() - started), 1.0)
    training = settings_for(model, texts, left, objective, seed)
    with bar("training", left) as advance:
        before = 0.0

        def tell(progress: Progress) -> None:
            nonlocal before
            advance(progress.seconds - before)
            before = progress.seconds

        try:
            made = make_head(model, texts, out, training, vocabulary, tell)
            command_line = shlex.join(["outrider", "train", target, "--out", str(out), "--minutes", f"{minutes:g}"])
            account = Account(
                model.name,
                command_line,
                made.tokens,
                made.parameters,
                made.vocabulary,
                made.curve[-1].seconds / 60,
                objective,
            )
            write_card(out, account, made.curve)
            drawn = draw_curve(out / CURVE, made.curve)
        except OSError as error:
            raise InputError(f"{out} cannot be written ({error.strerror}): choose another folder") from error
    first, best = made.curve[0], max(made.curve, key=lambda measured: measured.worth)
    shown = ", ".join(f"{share:.0%}" for share in best.agreement)
    messages().print(
        f"from {made.tokens:,} tokens of answers: the head's token is the target's in {shown} of cases, by place in "
        f"the draft ({first.agreement[0]:.0%} at first): {out}" + ("" if drawn else "; no picture without matplotlib"),
        style="dim",
        highlight=False,
    )
    return 0
