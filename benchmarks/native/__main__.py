"""`python -m benchmarks.native WHAT`, from the repository's root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.native.equal import compare_texts
from benchmarks.native.mixture import write_mixture
from benchmarks.native.neighbour import share_beside
from benchmarks.native.passes import time_passes
from benchmarks.native.rounding import compare_rounding
from benchmarks.native.tokenizer import compare_tokenizers
from outrider import load

COUNTS = (1, 2, 4, 8, 16)
BACKENDS: tuple[Literal["native"], Literal["llama"]] = ("native", "llama")

app = typer.Typer(help=__doc__, add_completion=False, pretty_exceptions_enable=False)
Threads = Annotated[int, typer.Option(help="Of every runtime.")]
Repeats = Annotated[int, typer.Option(help="Medians of so many.")]


@app.command()
def passes(file: Path, threads: Threads = 1, repeats: Repeats = 11, alone: bool = False) -> None:
    """Milliseconds of passes beside llama.cpp with the same GGUF file, or alone."""
    models = {"native": load(file, backend="native", threads=threads)}
    if not alone:
        models["llama.cpp"] = load(file, backend="llama", threads=threads)
    for name, found in time_passes(models, COUNTS, repeats).items():
        print(
            f"{name:10}", ", ".join(f"{work}: {milliseconds:.2f}" for work, milliseconds in found.items()), flush=True
        )


@app.command()
def mixture(file: Path, kind: Literal["q8_0", "q4_0", "mxfp4"] = "q8_0", layers: int = 2) -> None:
    """Write a file of random weights in the shapes of OLMoE's layers, for `passes`."""
    write_mixture(file, kind, layers)


@app.command()
def tokenizer(file: Path, text: Path, repeats: Repeats = 7) -> None:
    """Compare the tokens of a text with llama.cpp's, and what they take."""
    compare_tokenizers(file, text.read_text(encoding="utf-8"), repeats)


@app.command()
def neighbour(model: str, threads: Threads = 2, repeats: Repeats = 7) -> None:
    """Passes per second alone and beside a busy process."""
    opened = load(model, backend="native", threads=threads)
    for tokens in (1, 8):
        alone, beside, share = share_beside(opened, tokens, repeats)
        print(
            f"{tokens} tokens: alone {alone:.0f}, beside a busy process {beside:.0f} passes/s: {share:.2f}", flush=True
        )


@app.command()
def equal(
    questions: Path, model: str, draft_model: str, max_tokens: int = 128, threads: Threads = 1, every: int = 1
) -> None:
    """Compare greedy texts with and without drafters, question by question."""
    compare_texts(questions, model, draft_model, max_tokens, threads, every)


@app.command()
def rounding(folder: Path, files: list[Path], windows: int = 20, threads: Threads = 1) -> None:
    """Perplexity and KL divergence of GGUF files, here and in llama.cpp, from the bfloat16 weights of a folder."""
    reference = load(folder, backend="native", dtype="bfloat16", threads=threads)
    models = {f"{file.stem} {name}": load(file, backend=name, threads=threads) for file in files for name in BACKENDS}
    for name, (perplexity, divergence) in compare_rounding(reference, models, windows).items():
        print(f"{name:45} perplexity {perplexity:.3f}, KL {divergence:.5f} nats", flush=True)


if __name__ == "__main__":
    app()
