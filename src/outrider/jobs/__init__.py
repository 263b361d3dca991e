"""Many prompts from a file, decoded several at a time; a run that was killed goes on where it stopped."""

from outrider.jobs.jobs import Common, Job, Jobs, Preparation
from outrider.jobs.progress import Progress
from outrider.jobs.results import ResultFile, Results, ResultStream
from outrider.jobs.run import run
from outrider.prompts.files import Defaults, FilePrompt, PromptFile, parse_prompts, read_prompts

__all__ = [
    "Common",
    "Defaults",
    "FilePrompt",
    "Job",
    "Jobs",
    "Preparation",
    "Progress",
    "PromptFile",
    "ResultFile",
    "ResultStream",
    "Results",
    "parse_prompts",
    "read_prompts",
    "run",
]
