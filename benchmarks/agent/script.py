"""A scripted agent: twelve turns that quote and edit one file of 277 lines.

Each turn quotes a part of the file and asks for it with a name changed. Each edit is asked for three times: at first,
after a failed test, and after a review. Then it is applied as it was meant, whatever the model wrote, so that file and
prompts are the same in every run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# (kind, plural, fields), of records that the file stores.
KINDS = (
    ("customer", "customers", ("name", "city", "email")),
    ("order", "orders", ("number", "product", "amount")),
    ("invoice", "invoices", ("number", "customer", "total")),
    ("product", "products", ("title", "price", "stock")),
    ("shipment", "shipments", ("address", "carrier", "weight")),
    ("employee", "employees", ("name", "office", "salary")),
)
HEAD = '''"""Records of a small shop, kept in CSV files."""

import csv
import os
from datetime import date

FOLDER = "records"


'''
LOAD = '''def load_{plural}(path):
    """Read all {plural} from a CSV file."""
    rows = []
    if not os.path.exists(path):
        return rows
    with open(path, newline="") as file:
        for line in csv.DictReader(file):
            row = {{
                "{0}": line["{0}"].strip(),
                "{1}": line["{1}"].strip(),
                "{2}": line["{2}"].strip(),
            }}
            rows.append(row)
    return rows
'''
SAVE = '''def save_{plural}(rows, path):
    """Write all {plural} into a CSV file."""
    backup = path + ".old"
    if os.path.exists(path):
        os.replace(path, backup)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["{0}", "{1}", "{2}"])
        for row in rows:
            writer.writerow([row["{0}"], row["{1}"], row["{2}"]])
    print("saved", len(rows), "{plural} on", date.today())
'''
FIND = '''def find_{kind}(rows, {0}):
    """The first {kind} with this {0}, or None."""
    for row in rows:
        if row["{0}"].lower() == {0}.lower():
            return row
    return None


def {plural}_by_{1}(rows):
    """Lists of {plural}, one for each {1}."""
    groups = {{}}
    for row in rows:
        groups.setdefault(row["{1}"], []).append(row)
    return groups
'''
PARTS = (LOAD, SAVE, FIND)


Part = tuple[int, int]  # (number of the kind, number of its part)


@dataclass(frozen=True)
class Edit:
    """A name that changes in one part of the file."""

    part: Part
    old: str
    new: str


EDITS = (
    Edit((0, 0), "rows", "entries"),
    Edit((1, 1), "backup", "previous"),
    Edit((0, 0), "line", "record"),
    Edit((3, 0), "row", "product"),
)
ATTEMPTS = ("", ", tried again after a failed test", ", tried again after a review")
PROMPT = '''Edits of shop.py. Each one shows the old code and then the new code.

Edit 1: rename `a` to `first`.
Old:
```python
def add(a, b):
    """The sum of a and b."""
    return a + b
```
New:
```python
def add(first, b):
    """The sum of first and b."""
    return first + b
```

Edit 2{again}: rename `{old}` to `{new}`.
Old:
```python
{code}```
New:
```python
'''
END = "```"  # where the answer ends


@dataclass(frozen=True)
class Turn:
    """What the agent asks.

    Attributes:
        attempt: 0 for the first.
    """

    prompt: str
    attempt: int


def shop() -> dict[Part, str]:
    """The parts of the file, in their order."""
    return {
        (number, which): part.format(*fields, kind=kind, plural=plural)
        for number, (kind, plural, fields) in enumerate(KINDS)
        for which, part in enumerate(PARTS)
    }


def text_of(parts: dict[Part, str]) -> str:
    """The whole file."""
    return HEAD + "\n\n".join(parts.values())


def turns() -> list[Turn]:
    """All turns of the agent."""
    parts = shop()
    asked = []
    for edit in EDITS:
        code = parts[edit.part]
        for attempt, again in enumerate(ATTEMPTS):
            asked.append(Turn(PROMPT.format(again=again, old=edit.old, new=edit.new, code=code), attempt))
        parts[edit.part] = re.sub(rf"\b{edit.old}\b", edit.new, code)
    return asked
