"""What is written beside a head: a card that says what it is worth, and the curve of its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from outrider.training.heads.trainer import Measurement

CARD, CURVE = "README.md", "curve.png"


@dataclass(frozen=True, slots=True)
class Account:
    """How a head was made.

    Attributes:
        target: its name.
        command: what made the head.
        tokens: that it was trained on.
        parameters: of the head.
        vocabulary: how many tokens it can draft.
        minutes: of training.
        objective: what it was trained for.
        kind: head or model.
    """

    target: str
    command: str
    tokens: int
    parameters: int
    vocabulary: int
    minutes: float
    objective: str
    kind: str = "head"


KINDS = {
    "head": ("A draft head", "An EAGLE-3.1 head in the format of speculators"),
    "model": ("A draft model", "A small language model of the kind llama"),
}


def write_card(folder: Path, account: Account, curve: Sequence[Measurement]) -> None:
    """Raises OSError where it cannot be written."""
    best = max(curve, key=lambda measured: measured.worth)
    rows = "\n".join(
        f"| {depth} | {agreed:.0%} | {accepted:.0%} |"
        for depth, (agreed, accepted) in enumerate(zip(best.agreement, best.acceptance, strict=True), start=1)
    )
    title, what = KINDS[account.kind]
    text = f"""# {title} for {account.target}

{what}: {account.parameters:,} parameters, {account.vocabulary:,} tokens that it can draft. It was trained for
{account.minutes:.1f} minutes on {account.tokens:,} tokens that the target wrote itself, by the objective
`{account.objective}`, with this command:

    {account.command}

On texts that it was not trained on, for the draft tokens one after the other, each after right ones:

| draft token | is the target's most probable one | is accepted when drawn |
|---|---|---|
{rows}

    outrider generate -m {account.target} -md THIS_FOLDER "..."
"""
    (folder / CARD).write_text(text, encoding="utf-8")


def draw_curve(file: Path, curve: Sequence[Measurement]) -> bool:
    """Agreement by depth over the minutes of training; False where matplotlib is not installed.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    minutes = [measured.seconds / 60 for measured in curve]
    for depth in range(len(curve[0].agreement)):
        axes.plot(minutes, [measured.agreement[depth] for measured in curve], label=f"draft token {depth + 1}")
    axes.set(xlabel="minutes", ylabel="the target's most probable token", ylim=(0, 1))
    losses = axes.twinx()
    losses.plot(minutes, [measured.loss for measured in curve], color="grey", linestyle=":")
    losses.set_ylabel("loss (dotted)")
    axes.legend(loc="upper left")
    figure.savefig(file)
    return True
