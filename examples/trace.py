"""Write what happens in every round to a file, and read it back.

`outrider trace run.jsonl` shows the same as tables, `outrider trace run.jsonl -o run.svg` as a picture.

    python examples/trace.py
"""

import tempfile
from pathlib import Path

import outrider

if __name__ == "__main__":
    path = Path(tempfile.mkdtemp()) / "run.jsonl"
    with outrider.TraceWriter(path, target="smollm2", drafter="suffix") as trace:
        decoder = outrider.SpeculativeDecoder(outrider.SuffixDrafter(), "smollm2", lookahead=4, observer=trace)
        messages = [{"role": "user", "content": "Count from one to ten in words."}]
        decoder.generate(messages, max_tokens=40, temperature=0)
    for number, record in enumerate(outrider.read_trace(path), start=1):
        for each in record.sequences:
            print(f"round {number}: {each.drafted} tokens drafted, {each.accepted} accepted")
