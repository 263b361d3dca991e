"""Many prompts from a file, decoded several at a time; a run that was killed goes on where it stopped."""

from outrider.jobs.jobs import Common, Job, prepare
from outrider.jobs.prompts import Defaults, Prompt, parse_prompts
from outrider.jobs.results import ResultFile, Results, ResultStream
from outrider.jobs.run import Progress, run

__all__ = [
    "Common",
    "Defaults",
    "Job",
    "Progress",
    "Prompt",
    "ResultFile",
    "ResultStream",
    "Results",
    "parse_prompts",
    "prepare",
    "run",
]
