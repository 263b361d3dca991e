"""A trace as a picture: lookahead, acceptance, origins and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider.engine.events import Origin
from outrider.engine.statistics import Statistics
from outrider.errors import InputError, SettingError
from outrider.trace.coloured import first_text, laid_out, printable
from outrider.trace.file import Trace
from outrider.trace.pace import Pace, pace
from outrider.trace.summary import LookaheadCourse, Summary, lookahead_courses, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FORMATS = (".svg", ".png")
MOST_TEXTS_APART = 4  # more texts than this are drawn as one mean
MOST_VALUES = 160  # bars across the page
LONGEST_NAME = 44  # characters of a model's name in the title
BAR_WIDTH = 0.88  # of a round; the rest is the gap to the next bar
TEXT_COLUMNS, TEXT_LINES = 160, 10  # of the coloured text, in characters: as many as the page is wide
TEXT_SIZE = 8  # points
HEIGHT, TITLE_HEIGHT, LINE_HEIGHT = 8.8, 0.35, 0.16  # inches: without the text, of its title, of a line of it
ROUND_STEPS = (1, 2, 5, 10)  # between ticks

# The palette of Okabe and Ito is safe for colour-blind readers; green, yellow and cyan are those of the terminal.
GREEN, LIGHT_GREEN, YELLOW, CYAN, GREY = "#009E73", "#A6DBC8", "#E69F00", "#56B4E9", "#999999"
BLUE, PURPLE, DARK = "#0072B2", "#CC79A7", "#333333"
COLOURS = {Origin.DRAFTED: GREEN, Origin.CORRECTION: YELLOW, Origin.BONUS: CYAN, Origin.PLAIN: GREY}

STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "text.parse_math": False,  # a dollar in the name of a model is a dollar
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "outrider",  # the same trace, the same file
}


def require_picture_format(path: Path) -> None:
    """Raises SettingError if the suffix names no format that `draw` knows."""
    if path.suffix.lower() not in FORMATS:
        raise SettingError(f"the picture is {path} and its suffix says the format: end it in {' or '.join(FORMATS)}")


@contextmanager
def picture(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure in our style, `size` inches wide and high; it is written to `path` at the end of the block.

    Raises:
        SettingError: the suffix is neither .svg nor .png, or matplotlib is not installed.
        InputError: the file cannot be written.
    """
    require_picture_format(path)
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingError("a picture needs matplotlib: pip install 'outrider[plot]'") from error
    with style.context(["default", STYLE]):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
        try:
            figure.savefig(path, dpi=144, metadata=metadata)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"the picture cannot be written to {path} ({reason}): give another file") from error


def draw(trace: Trace, path: str | Path) -> None:
    """Draw a trace into a file, SVG or PNG by its suffix.

    Raises:
        SettingError, InputError: as `picture`; InputError also if the trace holds no rounds.
    """
    if not len(trace):
        raise InputError("the trace holds no rounds, and there is nothing to draw: let the run get further")
    with picture(Path(path), (11, HEIGHT + _text_height(trace))) as figure:
        _fill(figure, trace)


def headlines(trace: Trace, summary: Summary) -> tuple[str, str]:
    """The settings of the run, and its results in one line."""
    named = (("target", trace.target), ("drafter", trace.drafter), ("rule", trace.rule))
    run = " · ".join(f"{what} {_shortened(name)}" for what, name in named if name)
    statistics = summary.statistics
    if summary.texts == 1:  # without the rounds that only read the prompt
        parts = [f"{counted(statistics.emitted, 'token')} in {counted(statistics.rounds, 'round')}"]
    else:
        tokens, rounds = counted(statistics.emitted, "token"), counted(summary.rounds, "round")
        parts = [f"{tokens} of {summary.texts} texts in {rounds}"]
    per_text = " and text" if summary.texts > 1 else ""
    parts.append(f"{statistics.mean_tokens_per_round:.2f} tokens per round{per_text}")
    if statistics.drafted:
        parts.append(f"{statistics.acceptance_rate:.0%} of {statistics.drafted} drafted tokens accepted")
    else:
        parts.append("nothing was drafted")
    return run, " · ".join(parts)


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def phases(statistics: Statistics) -> dict[str, float]:
    """Seconds by phase, under the names that are shown."""
    return {
        "reading the prompt": statistics.seconds_prefill,
        "drafting": statistics.seconds_drafting,
        "verification": statistics.seconds_verification,
        "elsewhere": statistics.seconds_elsewhere,
    }


def _fill(figure: Figure, trace: Trace) -> None:
    summary = summarise(trace.records)
    statistics = summary.statistics
    run, outcome = headlines(trace, summary)
    figure.suptitle(f"{run}\n{outcome}" if run else outcome, fontsize=11, x=0.01, horizontalalignment="left")
    courses = lookahead_courses(trace.records, most_texts=MOST_TEXTS_APART, most_values=MOST_VALUES)
    said = first_text(trace)
    heights = [3.6, 1.7, 3.2] + ([_text_height(trace)] if said else [])
    rows: Any = figure.subfigures(len(heights), 1, height_ratios=heights, hspace=0.03)
    _draw_courses(rows[0], courses, summary.rounds)
    _draw_pace(rows[1], pace(trace.records, most_values=MOST_VALUES), summary.rounds)
    if said:
        _draw_text(rows[3], said, summary.texts)
    columns = rows[2].subfigures(1, 3, width_ratios=(1.25, 1, 1.2))
    _draw_acceptance(columns[0], statistics)
    origins = {str(origin): float(statistics.origins[origin]) for origin in Origin}
    _draw_bars(columns[1].subplots(), "Tokens by origin", "tokens", origins, list(COLOURS.values()), "{:.0f}")
    seconds = phases(statistics)
    whole = sum(seconds.values()) >= 1
    unit, factor, number = ("seconds", 1, "{:.2f} s") if whole else ("milliseconds", 1000, "{:.1f} ms")
    times = {phase: factor * each for phase, each in seconds.items()}
    _draw_bars(columns[2].subplots(), "Time by phase", unit, times, [PURPLE, GREEN, BLUE, GREY], number)


def _draw_courses(figure: SubFigure, courses: Sequence[LookaheadCourse], rounds: int) -> None:
    from matplotlib.ticker import MaxNLocator

    planned = [tokens for course in courses for tokens in course.planned if not isnan(tokens)]
    if not any(planned) and not any(tokens > 0 for course in courses for tokens in course.drafted):
        axes = figure.subplots()
        axes.set_title("Lookahead")
        _say(axes, "the lookahead was 0 in every round" if planned else "nothing was drafted in any round")
        return
    rows: Any = figure.subplots(len(courses), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for number, (axes, course) in enumerate(zip(rows, courses, strict=True), start=1):
        edges = [place * course.rounds_per_value for place in range(len(course.planned))] + [rounds]
        widths = [end - start for start, end in pairwise(edges)]
        middles = [(start + end) / 2 for start, end in pairwise(edges)]
        if planned:  # drafters that are given prices choose by themselves
            axes.stairs(course.planned, edges, baseline=None, color=DARK, linewidth=1, clip_on=False, label="planned")
        for values, colour, label in ((course.drafted, LIGHT_GREEN, "drafted"), (course.accepted, GREEN, "accepted")):
            axes.bar(middles, values, [BAR_WIDTH * width for width in widths], color=colour, label=label)
        axes.set_ylabel("tokens" if len(courses) == 1 else f"text {number}\ntokens")
        axes.set_xlim(0, rounds)
        axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], 1))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=ROUND_STEPS))
    rows[0].set_title(_title_of(courses))
    rows[-1].set_xlabel("round")
    rows[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, borderaxespad=0.2)


def _draw_pace(figure: SubFigure, course: Pace, rounds: int) -> None:
    """Tokens per second along the run, and how many texts took part."""
    from matplotlib.ticker import MaxNLocator

    several = max(course.active) > 1
    speed, *others = figure.subplots(1 + several, 1, sharex=True, squeeze=False, height_ratios=(2, 1)[: 1 + several])[
        :, 0
    ]
    edges = [place * course.rounds_per_value for place in range(len(course.active))] + [rounds]
    speed.set_title("Speed")
    speed.stairs(course.tokens_per_second, edges, fill=True, color=BLUE, alpha=0.75)
    speed.set_ylabel("tokens/s" + ("\nall texts" if several else ""))
    for axes in others:
        axes.stairs(course.active, edges, fill=True, color=GREY)
        axes.set_ylabel("texts\nat once")
        axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    for axes in (speed, *others):
        axes.set_xlim(0, rounds)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=ROUND_STEPS))
    speed.yaxis.set_major_locator(MaxNLocator(3))
    (others or [speed])[-1].set_xlabel("round")


def _text_height(trace: Trace) -> float:
    """Inches; 0 where the trace holds no text."""
    pieces, _ = laid_out(first_text(trace), columns=TEXT_COLUMNS, lines=TEXT_LINES)
    return TITLE_HEIGHT + LINE_HEIGHT * (1 + pieces[-1].line) if pieces else 0.0


def _draw_text(figure: SubFigure, said: Sequence[tuple[str, Origin]], texts: int) -> None:
    """The text itself, each token in the colour of its origin."""
    axes = figure.subplots()
    pieces, goes_on = laid_out(said, columns=TEXT_COLUMNS, lines=TEXT_LINES)
    axes.set_title(f"The {'first ' if texts > 1 else ''}text{', its beginning' if goes_on else ''}, coloured by origin")
    _say(axes, "")
    axes.set_xlim(0, TEXT_COLUMNS)
    axes.set_ylim(pieces[-1].line + 1, 0)
    for piece in pieces:
        colour = DARK if piece.origin is Origin.PLAIN else COLOURS[piece.origin]
        axes.text(
            piece.column,
            piece.line + 0.5,
            piece.text,
            color=colour,
            family="monospace",
            fontsize=TEXT_SIZE,
            verticalalignment="center",
        )


def _title_of(courses: Sequence[LookaheadCourse]) -> str:
    means = []
    if courses[0].texts > 1:
        means.append(f"{courses[0].texts} texts")
    if courses[0].rounds_per_value > 1:
        means.append(f"{courses[0].rounds_per_value} rounds")
    return "Lookahead" + (f", mean of {' and of '.join(means)}" if means else "")


def _draw_acceptance(figure: SubFigure, statistics: Statistics) -> None:
    """For each position: the share of drafts accepted up to it, of those that reach it; and how many reach it."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    title = "Acceptance by position in the draft"
    if not statistics.drafted:
        axes = figure.subplots()
        axes.set_title(title)
        _say(axes, "nothing was drafted")
        return
    rate, count = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    rate.set_title(title)
    rate.set_ylabel("accepted\nup to here")
    rate.set_ylim(0, 1)
    rate.yaxis.set_major_formatter(PercentFormatter(1))
    rate.tick_params(axis="x", length=0)
    count.set_ylabel("drafts\nthis long")
    count.set_xlabel("position in the draft")
    positions = range(1, len(statistics.drafted_at) + 1)
    pairs = zip(statistics.accepted_at, statistics.drafted_at, strict=True)
    rate.bar(positions, [accepted / drafted for accepted, drafted in pairs], color=GREEN)
    count.bar(positions, statistics.drafted_at, color=LIGHT_GREEN)
    count.set_xlim(0.4, max(len(positions), 4) + 0.6)
    count.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=ROUND_STEPS))
    count.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def _draw_bars(
    axes: Axes, title: str, unit: str, values: dict[str, float], colours: Sequence[str], number: str
) -> None:
    """Horizontal bars, from top to bottom, each with its number and its share."""
    from matplotlib.ticker import MaxNLocator

    total = sum(values.values())
    bars = axes.barh(list(values), list(values.values()), color=colours, height=0.7)
    shares = [f" ({value / total:.0%})" if total else "" for value in values.values()]
    labels = [number.format(value) + share for value, share in zip(values.values(), shares, strict=True)]
    axes.bar_label(bars, labels, padding=3)
    axes.set_title(title)
    axes.set_xlabel(unit)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, max(*values.values(), 1e-9) * 1.7)  # room for the labels
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND_STEPS))


def _say(axes: Axes, words: str) -> None:
    """Show words in place of an empty plot."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, words, transform=axes.transAxes, horizontalalignment="center", color=DARK)


def _shortened(name: str) -> str:
    """The end of a long name: the end of a path says most."""
    name = printable(name)
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]
