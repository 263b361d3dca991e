"""What each mistake does to the distribution of a token, as a picture: docs/course.svg.

Nothing is drawn at random here: the laws are worked out. It needs matplotlib, pip install "outrider[plot]".

    python examples/course/pictures.py course.svg
"""

import sys
from pathlib import Path

import numpy as np

from outrider.check.learner import kernels
from outrider.check.learner.mistakes import MISTAKES
from outrider.trace.picture import DARK, GREEN, GREY, PURPLE, YELLOW, picture

TOKENS = ["mat", "sofa", "roof", "moon"]  # The cat sat on the ...
P = np.array([0.45, 0.30, 0.15, 0.10])
Q = np.array([0.20, 0.15, 0.25, 0.40])
COLUMNS = 4
TOP = 0.7  # of an axis


def first(laws, mistake, number=0):
    """The law of a mistake, or one of several."""
    return [law for name, _, law in laws(P, Q) if name == mistake][number]


def emitted(drafted=Q, accepted=None, corrected=None):
    """What comes out: accepted draft tokens, and corrections of rejected ones."""
    accepted = kernels.ratio(P, Q) if accepted is None else accepted
    corrected = np.tile(kernels.residual(P, Q), (4, 1)) if corrected is None else corrected[:, :4]
    return drafted * accepted + (drafted * (1 - accepted)) @ corrected


def accepting(mistake):
    accepted = first(kernels.acceptances, mistake)
    return emitted(accepted=accepted, corrected=np.tile(kernels.partner(mistake, P, Q), (4, 1)))


def correcting(mistake, number=0):
    return emitted(corrected=first(kernels.corrections, mistake, number))


def of_cold_q():
    cold = kernels.tempered(Q, 0.5)
    return emitted(accepted=kernels.ratio(P, cold), corrected=np.tile(kernels.residual(P, cold), (4, 1)))


def discarded():
    """moon is dropped whenever it is drawn, and the target's own token comes in its place."""
    dropped = np.array([0, 0, 0, 1])
    kept = kernels.ratio(P, Q)
    rejected = (Q * (1 - dropped) * (1 - kept)).sum()
    return Q * (1 - dropped) * kept + rejected * kernels.residual(P, Q) + (Q * dropped).sum() * P


PANELS = [
    ("right, whatever q is", emitted()),
    ("correction from the target", correcting("from_target")),
    ("correction from the draft", correcting("from_draft")),
    ("the rejected token returned", correcting("rejected_kept")),
    (MISTAKES["not_normalised"].name, correcting("not_normalised")),
    (MISTAKES["softmax_residual"].name, correcting("softmax_residual")),
    (MISTAKES["absolute"].name, correcting("absolute")),
    (MISTAKES["banned"].name, correcting("banned")),
    ("equal noise for both draws", correcting("equal_noise")),
    (MISTAKES["swapped"].name, accepting("swapped")),
    (MISTAKES["target_alone"].name, accepting("target_alone")),
    (MISTAKES["no_chance"].name, accepting("no_chance")),
    (MISTAKES["greedy"].name, accepting("greedy")),
    (MISTAKES["always"].name, accepting("always")),
    ("q of temperature 0.5", of_cold_q()),
    ("discarded draft tokens", discarded()),
]


def draw(axes, title, law):
    """One panel: what comes in green, what comes too often in yellow, what is missing as an empty frame."""
    places = np.arange(4)
    axes.bar(places, np.minimum(law, P), width=0.7, color=GREEN)
    axes.bar(places, np.maximum(law - P, 0), width=0.7, bottom=P, color=YELLOW)
    axes.bar(places, P, width=0.7, fill=False, edgecolor=DARK, linewidth=0.9)
    axes.hlines(Q, places - 0.43, places + 0.43, color=PURPLE, linewidth=2)
    wrong = np.abs(law - P).sum() / 2
    for place, chance in enumerate(law):
        if chance > TOP:
            axes.text(place, TOP - 0.03, f"{chance:.1f}", ha="center", va="top", color="white", weight="bold")
    axes.set_title(title, fontsize=9.5, color=DARK if wrong < 1e-9 else "#A04000")
    said = "exact" if wrong < 1e-9 else f"{wrong:.0%} of tokens wrong"
    axes.text(0.98, 0.93, said, transform=axes.transAxes, ha="right", va="top", color=GREY if wrong < 1e-9 else DARK)
    axes.set_xticks(places, TOKENS)
    axes.tick_params(length=0)


def main():
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "course.svg")
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rows = -(-len(PANELS) // COLUMNS)
    with picture(path, (11, 2.05 * rows + 0.7)) as figure:
        grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True)
        for axes, (title, law) in zip(grid.flat, PANELS, strict=True):
            draw(axes, title, law)
        grid[0, 0].set_ylim(0, TOP)
        grid[0, 0].set_yticks([0, 0.2, 0.4, 0.6])
        shown = [
            Patch(facecolor="none", edgecolor=DARK, label="p, the target; empty: too rarely"),
            Line2D([], [], color=PURPLE, linewidth=2, label="q, the draft model"),
            Patch(color=GREEN, label="what comes"),
            Patch(color=YELLOW, label="too often"),
        ]
        figure.legend(handles=shown, loc="outside upper left", ncols=5, frameon=False, fontsize=10)
    print(f"{len(PANELS)} distributions are in {path}")


if __name__ == "__main__":
    main()
