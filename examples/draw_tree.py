"""Draw trees of candidates, as a real run verified them, into an SVG file.

python examples/draw_tree.py [--model smollm2] [--draft-model FOLDER] [--rounds 4] trees.svg PROMPT
"""

import argparse
from html import escape
from pathlib import Path

import outrider
from outrider.maths.draft import ROOT

ROW, COLUMN, LEFT, TOP, CHARACTER = 30, 128, 16, 34, 7
ACCEPTED, REJECTED, NEXT = ("#A6DBC8", "#00664B"), ("#F2F2F2", "#999999"), ("#FBE3B0", "#8A5E00")


class Watched(outrider.Merged):
    """A drafter whose drafts and verdicts are kept."""

    def __init__(self, drafter):
        super().__init__([drafter], rests=False)
        self.seen = []

    def observe(self, sequence, draft, verdict):
        super().observe(sequence, draft, verdict)
        if len(draft):
            before = sequence.tokens[: len(sequence.tokens) - verdict.accepted - 1]
            self.seen.append((list(before), draft, verdict))


def rows_of(draft):
    """The row of every node in the picture: leaves one under the other, parents at their first child."""
    rows, free = {}, 0

    def place(node):
        nonlocal free
        children = draft.children(node)
        for child in children:
            place(child)
        rows[node] = rows[children[0]] if children else free
        free += not children

    place(ROOT)
    return rows, max(free, 1)


def box(x, y, text, colours, bold=False):
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<rect x="{x}" y="{y - 11}" width="{COLUMN - 26}" height="22" rx="5" fill="{colours[0]}" '
        f'stroke="{colours[1]}"/><text x="{x + (COLUMN - 26) / 2}" y="{y + 4}" text-anchor="middle"{weight} '
        f'fill="#222">{escape(text)}</text>'
    )


def line(x, y, to_x, to_y, colour, width):
    middle = (x + to_x) / 2
    return f'<path d="M{x},{y} C{middle},{y} {middle},{to_y} {to_x},{to_y}" fill="none" stroke="{colour}" stroke-width="{width}"/>'  # noqa: E501


def picture_of(draft, verdict, pending, say, top):
    """One tree, its lowest edge."""
    rows, height = rows_of(draft)
    at = {
        node: (LEFT + (draft.depths[node] if node != ROOT else 0) * COLUMN, top + row * ROW)
        for node, row in rows.items()
    }
    lines, boxes = [], [box(*at[ROOT], say(pending), ("#FFFFFF", "#333333"))]
    for node in range(len(draft)):
        kept = node in verdict.path
        x, y = at[draft.parent(node)]
        lines.append(line(x + COLUMN - 26, y, *at[node], ACCEPTED[1] if kept else REJECTED[1], 2.4 if kept else 1))
        boxes.append(box(*at[node], say(draft.tokens[node]), ACCEPTED if kept else REJECTED, bold=kept))
    last = verdict.path[-1] if verdict.path else ROOT
    below = (at[last][0] + COLUMN, top + height * ROW)
    lines.append(line(at[last][0] + COLUMN - 26, at[last][1], *below, NEXT[1], 2.4))
    boxes.append(box(*below, say(verdict.token), NEXT, bold=True))
    width = max(x for x, _ in [*at.values(), below]) + COLUMN
    return lines + boxes, width, top + (height + 1) * ROW


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("prompt")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--draft-model", help="default: the suffix drafter")
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--skip", type=int, default=0, help="rounds before the first that is drawn")
    parser.add_argument("--rounds", type=int, default=3, help="how many to draw")
    parser.add_argument("--max-tokens", type=int, default=60)
    arguments = parser.parse_args()
    target = outrider.load(arguments.model)
    tree = (
        outrider.SuffixTreeDrafter()
        if arguments.draft_model is None
        else outrider.ModelTreeDrafter(outrider.load(arguments.draft_model))
    )
    watched = Watched(tree)
    decoder = outrider.SpeculativeDecoder(watched, target, arguments.nodes)
    prompt = target.tokenizer.encode_chat([{"role": "user", "content": arguments.prompt}])
    decoder.generate(
        prompt or arguments.prompt,
        max_tokens=arguments.max_tokens,
        sampling=outrider.SamplingParams(temperature=0),
    )

    def say(token):
        return target.tokenizer.decode([token]).replace("\n", "⏎").replace(" ", "·") or "end"

    parts, top, width = [], TOP, 0
    for before, draft, verdict in watched.seen[arguments.skip :][: arguments.rounds]:
        text = target.tokenizer.decode(before[-9:-1]).replace("\n", "⏎")
        caption = f"…{text} … one pass over {len(draft) + 1} tokens, {verdict.accepted + 1} emitted"
        parts.append(f'<text x="{LEFT}" y="{top}" fill="#555">{escape(caption)}</text>')
        drawn, wide, top = picture_of(draft, verdict, before[-1], say, top + ROW)
        parts += drawn
        width, top = max(width, wide, 2 * LEFT + CHARACTER * len(caption)), top + ROW
    arguments.file.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top - ROW}" font-size="12" '
        f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n',
        encoding="utf-8",
    )
    print(f"{min(len(watched.seen), arguments.rounds)} trees are in {arguments.file}")


if __name__ == "__main__":
    main()
