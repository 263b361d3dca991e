"""What runs on a GPU without asking the host: attention over a slotted cache, verdicts, drafts rolled out."""
