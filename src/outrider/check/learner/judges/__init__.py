"""From what was observed to verdicts, one file a task."""
