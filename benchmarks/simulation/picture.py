"""Regret as a picture: a table of policies and scenarios, and one lookahead over time beside the oracle's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.simulation.regret import Regret
from benchmarks.simulation.rounds import Course
from outrider.trace.picture import DARK, GREEN, GREY, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORST_SHOWN = 0.4  # the regret of the darkest colour
DARK_FROM = 0.25  # from here on numbers are white


def draw_regrets(regrets: Sequence[Regret], path: str | Path) -> None:
    """Draw into a file, SVG or PNG by its suffix.

    Raises:
        SettingError, InputError: as `picture` does.
    """
    with picture(Path(path), (10, 3.4 + 0.3 * len(regrets))) as figure:
        table, course = figure.subplots(2, 1, height_ratios=(0.3 * len(regrets) + 0.6, 2.4))
        _draw_table(table, regrets)
        shown = max(regrets, key=lambda regret: _variety(regret.courses["oracle"]))
        _draw_course(course, shown)


def _draw_table(axes: Axes, regrets: Sequence[Regret]) -> None:
    policies = list(regrets[0].regrets)
    values = [[regret.regrets[policy] for policy in policies] for regret in regrets]
    axes.imshow(values, cmap="YlOrRd", vmin=0, vmax=WORST_SHOWN, aspect="auto")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            colour = "white" if value > DARK_FROM else DARK
            weight = "bold" if policies[column] == "Goodput" else "normal"
            axes.text(column, row, f"{value:.1%}", ha="center", va="center", color=colour, fontweight=weight)
    axes.set_xticks(range(len(policies)), policies)
    axes.set_yticks(range(len(regrets)), [title_of(regret) for regret in regrets])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Regret: the share of the oracle's tokens per second that a policy misses", pad=24)


def title_of(regret: Regret) -> str:
    """The scenario and its number of rows."""
    return f"{regret.scenario}, {regret.rows} rows" if regret.rows > 1 else regret.scenario


def _draw_course(axes: Axes, regret: Regret) -> None:
    from matplotlib.ticker import MaxNLocator

    goodput, oracle = regret.courses["Goodput"], regret.courses["oracle"]
    axes.step(goodput.places, goodput.lookaheads, where="post", color=GREEN, linewidth=0.9, label="Goodput")
    axes.step(oracle.places, oracle.lookaheads, where="post", color=DARK, linewidth=1.4, label="the oracle")
    axes.set_title(f"Lookahead in the first text of “{title_of(regret)}”")
    axes.set_xlabel("tokens of the text")
    axes.set_ylabel("tokens")
    axes.set_xlim(0, max(oracle.places) + 1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(axis="y", color=GREY, alpha=0.3)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.2)


def _variety(course: Course) -> float:
    """How much the mean lookahead changes between the halves of a text."""
    half = len(course.places) and max(course.places) / 2
    early = [k for k, place in zip(course.lookaheads, course.places, strict=True) if place < half]
    late = [k for k, place in zip(course.lookaheads, course.places, strict=True) if place >= half]
    if not early or not late:
        return 0.0
    return abs(sum(early) / len(early) - sum(late) / len(late))
