"""Tokens per second of a model that is read from the disk, in pieces of less than two minutes.

    python -m benchmarks.offload make              # once: 2.5 GB under /tmp
    python -m benchmarks.offload plain|chain|tree  # each decodes for a minute
    python -m benchmarks.offload table

--cold drops the weights from the page cache before each pass, so that each reads the disk itself.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import outrider
from benchmarks.offload.model import CONFIG, Imposed, bytes_read, files, write
from benchmarks.offload.oracle import Oracle
from outrider import Engine, Goodput, Request, RoundRecord, SamplingParams

PLACES = 3000
PROMPT = 32
SYSTEMS = ("plain", "chain", "tree")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", choices=("make", *SYSTEMS, "table"))
    parser.add_argument("--folder", type=Path, default=Path("/tmp/outrider-offload"))
    parser.add_argument("--max-memory", default="900MiB", help="of 2.3 GiB of weights")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--most", type=int, help="nodes; default: what the engine chooses by itself")
    parser.add_argument("--cold", action="store_true", help="read the disk in each pass, not the page cache")
    arguments = parser.parse_args()
    results = arguments.folder / "results.json"
    if arguments.piece == "make":
        write(arguments.folder / "model")
    elif arguments.piece == "table":
        print(table(json.loads(results.read_text())))
    else:
        found = measure(arguments)
        print(json.dumps(found))
        known = json.loads(results.read_text()) if results.exists() else {}
        name = arguments.piece + (", cold" if arguments.cold else "")
        results.write_text(json.dumps(known | {name: found}))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Decode with one system for a while."""
    torch.set_num_threads(arguments.threads)
    folder = arguments.folder / "model"
    text = np.random.default_rng(0).integers(0, CONFIG.vocab_size, PLACES).tolist()
    began = time.perf_counter()
    opened = outrider.load(
        folder,
        dtype="bfloat16",
        device="cpu",
        threads=arguments.threads,
        max_memory=arguments.max_memory,
        offload_folder=arguments.folder / "offloaded",
    )
    opening = time.perf_counter() - began
    target = Imposed(opened, text, files(folder) if arguments.cold else [])
    drafter = None if arguments.piece == "plain" else Oracle(text, CONFIG.vocab_size, trees=arguments.piece == "tree")
    rounds: list[RoundRecord] = []
    began = time.perf_counter()
    engine = Engine(
        target,
        drafter,
        lookahead=None if arguments.most is None else Goodput(arguments.most),
        max_rows=1,
        capacity=PLACES,
        observer=rounds.append,
    )
    measuring = time.perf_counter() - began
    engine.submit(Request(tuple(text[:PROMPT]), PLACES - PROMPT - 600, SamplingParams(temperature=0)))
    emitted: list[int] = [event.token for event in engine.step()]  # the prompt's pass
    before, began, passes = bytes_read(), time.perf_counter(), 0
    while time.perf_counter() - began < arguments.seconds and not engine.idle:
        emitted += [event.token for event in engine.step()]
        passes += 1
    seconds = time.perf_counter() - began
    assert emitted == text[PROMPT : PROMPT + len(emitted)]
    drafted = [sum(row.drafted for row in record.sequences) for record in rounds[1:]]
    return {
        "tokens per second": round((len(emitted) - 1) / seconds, 3),
        "seconds per pass": round(seconds / passes, 3),
        "tokens per pass": round((len(emitted) - 1) / passes, 2),
        "drafted per pass": round(float(np.mean(drafted)), 1),
        "largest draft": max(drafted),
        "GB read from the disk per pass": round((bytes_read() - before) / passes / 1e9, 3),
        "passes": passes,
        "seconds of opening": round(opening, 1),
        "seconds of measuring costs": round(measuring, 1),
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown, with what each system gains over plain decoding of the same kind."""
    columns = ["tokens per second", "seconds per pass", "tokens per pass", "drafted per pass", "largest draft"]
    lines = ["| system | " + " | ".join(columns) + " | times plain |", "|---|" + "---|" * (len(columns) + 1)]
    for name, found in results.items():
        plain = results.get("plain, cold" if name.endswith("cold") else "plain")
        times = f"{found[columns[0]] / plain[columns[0]]:.2f}" if plain else ""
        lines.append(f"| {name} | " + " | ".join(str(found[column]) for column in columns) + f" | {times} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
