"""Tokens per round by category, and which source they came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.drafts.measurement import Sources

# Okabe and Ito's palette.
COLOURS = {"suffix": "#0072B2", "suffix+recycling": "#009E73", "recycling": "#E69F00"}
OTHER, OWN = "#CC79A7", "#999999"
OWN_NAME = "the target's own token"


def draw(found: Mapping[str, Sources], title: str, path: Path) -> None:
    """Write the picture; its suffix says the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.42 * len(found) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    names = list(found)
    places = list(range(len(names)))[::-1]
    sources = sorted({source for each in found.values() for source in each.proposed}, key=_order)
    for place, name in zip(places, names, strict=True):
        each = found[name]
        start = 1.0
        left.barh(place, 1.0, color=OWN, height=0.72, label=OWN_NAME if place == places[0] else None)
        for source in sources:
            width = each.accepted[source] / max(each.rounds, 1)
            left.barh(place, width, left=start, color=COLOURS.get(source, OTHER), height=0.72)
            start += width
        left.text(start + 0.03, place, f"{each.tokens_per_round:.2f}", va="center", fontsize=8)
        for number, source in enumerate(sources):
            height = 0.72 / len(sources)
            at = place + 0.36 - height * (number + 0.5)
            share = each.accepted[source] / max(each.proposed[source], 1)
            right.barh(at, share, color=COLOURS.get(source, OTHER), height=height)
    for source in sources:
        left.barh(0, 0, color=COLOURS.get(source, OTHER), label=source.replace("+", " and "))
    left.set_yticks(places, names)
    right.set_yticks(places, [""] * len(places))
    left.set_title("tokens per round, and who proposed them", fontsize=10, loc="left")
    right.set_title("share of each one's tokens that is accepted", fontsize=10, loc="left")
    right.xaxis.set_major_formatter("{x:.0%}")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.set_ylim(-0.6, len(names) - 0.4)
    figure.legend(loc="outside lower center", ncols=len(sources) + 1, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _order(source: str) -> tuple[int, str]:
    known = list(COLOURS)
    return (known.index(source) if source in known else len(known), source)
