"""`outrider warm`: what the lookup drafter starts with, learned from a model's own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outrider.cli.options.group import option
from outrider.cli.options.models import RuntimeOptions
from outrider.cli.terminal import messages, reporting_bar
from outrider.cli.writing import OPENINGS, encoded, make_folder, prompts_of, write_texts
from outrider.drafters.lookup.loading import fingerprint, warm_file
from outrider.drafters.recycling.state import save_state
from outrider.drafters.recycling.successors import KEPT
from outrider.errors import SettingError
from outrider.runtimes.base import Model
from outrider.training.shards import read_shards
from outrider.training.sweep import expectations
from outrider.training.synthesis import SynthesisSettings, answered, self_written, users_turn_of
from outrider.training.warming import Warming
from outrider_command import INTERRUPTED


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The target: a folder, a name, or smollm2.")],
    runtime: RuntimeOptions,
    minutes: Annotated[
        float, option("--minutes", "N", "How long the model writes. A pass over its vocabulary comes on top.")
    ] = 10.0,
    input: Annotated[
        Path | None,
        option("--input", "FILE", "Answer these prompts, as of generate --input. Default: what the model asks itself."),
    ] = None,
    output: Annotated[
        Path | None, option("--output -o", "FILE", "Default: in the cache folder, where it is found by itself.")
    ] = None,
    data: Annotated[
        Path | None,
        option("--data", "DIR", "Keep the texts here; those of earlier runs are learned from as well."),
    ] = None,
    pairs: Annotated[int, option("--pairs", "N", "The most contexts of two tokens to keep.")] = 60_000,
    max_rows: Annotated[int, option("--max-rows", "N", "Texts at once.")] = 32,
    seed: Annotated[int, option("--seed", "N", "Of the questions that the model asks itself.")] = 0,
) -> int:
    """Learn what a model tends to say, so that drafts are good from the first token on. Nothing is trained."""
    if not minutes >= 0:
        raise SettingError(f"--minutes is {minutes}: it must be at least 0")
    if pairs < 0 or max_rows < 1:
        raise SettingError(f"--pairs is {pairs} and --max-rows {max_rows}: at least 0 contexts and 1 row are needed")
    prompts = None if input is None else prompts_of(input)
    if data is not None:
        make_folder(data)
    target = runtime.open(model)
    file = _place(target, output)
    asked = None if prompts is None else encoded(prompts, target)
    if minutes and asked is None:
        users_turn_of(target)  # a model that cannot ask itself is refused before its vocabulary is read
    known = [] if data is None else list(read_shards(data, fingerprint(target)))
    warming = Warming(target.traits.vocab_size, fingerprint(target))
    with reporting_bar("vocabulary", target.traits.vocab_size) as advance:
        for tokens, top, probabilities in expectations(target, KEPT):
            warming.learn_tokens(tokens, top, probabilities)
            advance(len(tokens), "")
    for text in known:
        warming.learn_text(text)
    settings = SynthesisSettings(rows=max_rows, top=KEPT, openings=OPENINGS, seed=seed + len(known))
    texts = self_written(target, settings) if asked is None else answered(target, asked, settings)
    interrupted = False
    try:
        if minutes:
            write_texts(texts, minutes, warming.learn_text, data, warming.tokenizer)
    except KeyboardInterrupt:
        interrupted = True
    state = warming.state(pairs)
    save_state(state, file)
    size = file.stat().st_size / 1e6
    stopped = "stopped: " if interrupted else ""
    messages().print(
        f"{stopped}{state!r} from {warming.tokens:,} tokens of answers: {file} ({size:.1f} MB)", style="dim"
    )
    return INTERRUPTED if interrupted else 0


def _place(target: Model, output: Path | None) -> Path:
    """Where the state goes; its folder is there."""
    if output is None and target.tokenizer is None:
        raise SettingError(
            f"{target.name} has no tokenizer, by which its state could be found: give --output FILE, and the same FILE "
            "to generate with --drafter-state"
        )
    file = warm_file(target) if output is None else output
    make_folder(file.parent)
    return file
