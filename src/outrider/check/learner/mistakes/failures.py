"""What files do that cannot be judged further."""

from __future__ import annotations

from outrider.check.learner.mistakes.base import Mistake

FAILURES = {
    "not_written": Mistake("not written yet", "It returns None.", "Write it."),
    "wrong_kind": Mistake("of the wrong kind", "The name stands for something else.", "Define it as the chapter does."),
    "floods": Mistake("it prints without end", "It wrote more than 16 MB.", "Print less."),
    "not_a_number": Mistake(
        "a division by zero",
        "Some number is NaN or infinite.",
        "Look at the lines above: which divisor may be 0 there?",
    ),
    "nonsense": Mistake("no answer", "Its process told nothing that can be understood.", "Do not write to open files."),
    "fails": Mistake("it fails", "It raises an error.", "The lines above say where."),
    "hangs": Mistake("it does not come to an end", "It ran until its time was over.", "Look for a loop without end."),
    "dies": Mistake("it ends the program", "The process ended in the middle.", "Return, and leave the program alone."),
    "shape": Mistake(
        "a result of another form", "The result is not what the chapter asks for.", "The lines above say where."
    ),
    "unknown": Mistake(
        "another distribution",
        "The counts fit neither the right algorithm nor a known mistake.",
        "Compare the numbers above with what your code should do there.",
    ),
}
