"""`outrider generate`: one prompt, one answer, as it comes; many prompts go on to cli/jobs.py."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from outrider.api.decoder import SpeculativeDecoder
from outrider.api.stream import Generation
from outrider.cli.comparison import Comparison, compare_with_plain
from outrider.cli.options.drafters import NONE, DrafterKind
from outrider.cli.options.drafting import SelfTuningOptions, say_whether_reproducible
from outrider.cli.options.jobs import JobOptions
from outrider.cli.options.models import ModelOptions
from outrider.cli.options.output import OutputOptions
from outrider.cli.options.parallel import ParallelOptions
from outrider.cli.options.prompt import PromptOptions
from outrider.cli.options.sampling import SamplingOptions
from outrider.cli.options.structured import StructuredOptions
from outrider.cli.render import print_json, summary
from outrider.cli.streaming import stream, writer_of
from outrider.cli.terminal import messages
from outrider.drafters.base import Drafter
from outrider.drafters.lookup.drafter import LookupDrafter
from outrider.errors import InputError, SettingError, TooLongError
from outrider.lookahead import AdaptiveSpeculator
from outrider.maths.rules import RuleName
from outrider.maths.sampling import SamplingParams
from outrider.prompts.chat import Chat, EncodedPrompt, encode_prompt
from outrider.prompts.request import PreparedRequest, Request, prepare_request
from outrider.prompts.tokens import plain_prompt
from outrider.runtimes.base import Model
from outrider.runtimes.files.fingerprint import hub_commit, weights_fingerprint
from outrider.runtimes.files.places import local
from outrider.runtimes.files.smollm2 import SMOLLM2
from outrider.structured import Grammar
from outrider.text import limited
from outrider.trace import TraceWriter


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, once all flags have been checked.

    Attributes:
        lookahead: None chooses by measured goodput.
        predicted: text expected in the answers.
        state: the file that what the drafter learned is kept in.
        structured: what the answers may look like.
        divided: the target, where this process opened it with others.
    """

    prompt: PromptOptions
    models: ModelOptions
    kind: DrafterKind
    rule: RuleName
    lookahead: int | AdaptiveSpeculator | None
    predicted: str
    sampling: SamplingParams
    output: OutputOptions
    state: Path | None = None
    structured: Grammar | None = None
    divided: Model | None = None

    def open(self) -> tuple[Model, Drafter | None]:
        """Target and drafter."""
        target = self.models.open_target() if self.divided is None else self.divided
        return target, self.kind.open(self.models.open_draft, target)

    def open_with(self, threads: int) -> tuple[Model, Drafter | None]:
        """The same, computing with so many threads."""
        runtime = replace(self.models.runtime, threads=threads)
        return replace(self, models=replace(self.models, runtime=runtime)).open()

    def keep_state(self, drafter: Drafter | None) -> None:
        """Write down what the drafter learned, where that was asked for."""
        if self.state is not None and isinstance(drafter, LookupDrafter):
            drafter.save(self.state)

    def tracing(self) -> AbstractContextManager[TraceWriter | None]:
        """Opens the file before the model, so that one that cannot be written is refused at once."""
        if self.output.trace is None:
            return nullcontext()
        drafter = "" if self.kind.name == NONE else self.models.draft_model or self.kind.name
        return TraceWriter(self.output.trace, target=self.models.model, drafter=drafter, rule=self.rule)


def command(
    prompt: PromptOptions,
    models: ModelOptions,
    drafting: SelfTuningOptions,
    sampling: SamplingOptions,
    structured: StructuredOptions,
    output: OutputOptions,
    jobs: JobOptions,
    parallel: ParallelOptions,
) -> int:
    """Continue a prompt, or many from a file, decoded speculatively."""
    jobs.check()
    models = parallel.check(models)
    for_one_process = {
        "--trace": output.trace is not None,
        "--drafter-state": drafting.drafter_state is not None,
        "--tensor-parallel": parallel.tensor_parallel is not None,
    }
    jobs.refuse_beside_workers(for_one_process)
    prompt.check()
    kind = drafting.with_state(drafting.kind(models), many=jobs.input is not None)
    if output.compare and kind.name == NONE:
        raise SettingError(
            "--compare compares a drafter with plain decoding and --drafter is none: leave one of them out"
        )
    task = Task(
        prompt,
        models,
        kind,
        drafting.rule,
        drafting.policy(kind),
        drafting.predicted(kind),
        sampling.params(models.model),
        output,
        drafting.drafter_state,
        structured.wanted(),
    )
    if jobs.input is None:
        output.check()
        return _with_target(task, parallel, _one)
    given = {"PROMPT": prompt.prompt is not None, "--file": prompt.file is not None}
    jobs.refuse_beside(given | {"--show": output.show, "--compare": output.compare, "--json": output.json})
    return _with_target(task, parallel, lambda task: _many(task, jobs))


def _with_target(task: Task, parallel: ParallelOptions, run: Callable[[Task], int]) -> int:
    """Run it here, or on rank 0 with a target that all ranks hold a part of."""
    if parallel.tensor_parallel is None:
        return run(task)
    with parallel.target(task.models) as target:
        return 0 if target is None else run(replace(task, divided=target))


def _many(task: Task, jobs: JobOptions) -> int:
    # Here, because one prompt does without, and its first token waits for all that is imported.
    from outrider.cli.jobs import decode, in_one_process, on_workers
    from outrider.jobs import Common, Defaults
    from outrider.jobs.decoding import EngineSettings

    drafters: list[Drafter | None] = []

    def opened() -> tuple[Model, Drafter | None]:
        target, drafter = task.open()
        drafters.append(drafter)
        return target, drafter

    settings = EngineSettings(task.lookahead, task.rule)
    runtime = task.models.runtime
    with task.tracing() as observer:
        if jobs.workers is None:
            run = in_one_process(jobs, settings, opened, observer)
        else:
            run = on_workers(jobs, settings, task.open_with, runtime.threads, gpus=runtime.device != "cpu")
        status = decode(
            jobs,
            Defaults(task.prompt.max_tokens, task.sampling, task.prompt.stops),
            Common(
                model=_identity(task.models),
                rule=task.rule,
                seed=task.sampling.seed,
                system_prompt=task.prompt.system_prompt,
                use_chat_template=not task.prompt.ignore_chat_template,
                predicted=task.predicted,
                logprobs=task.output.asked_logprobs,
                structured=task.structured,
            ),
            task.lookahead,
            run,
        )
    for drafter in drafters:
        task.keep_state(drafter)
    task.models.say_whether_rounded()
    return status


def _one(task: Task) -> int:
    text = task.prompt.read()
    sampling, output = task.sampling, task.output
    if sampling.seed is not None and not sampling.greedy:
        say_whether_reproducible(task.rule, task.lookahead)
    # A comparison decodes again: the trace ends with what is shown.
    with task.tracing() as observer:
        target, drafter = task.open()
        decoder = SpeculativeDecoder(drafter, target, task.lookahead, rule=task.rule, observer=observer)
        request = prepared(target, text, task)
        generation = stream(decoder, request, writer_of(output))
    task.keep_state(drafter)
    if not output.json:
        messages().print(summary(generation.stats, None if sampling.greedy else generation.seed), style="dim")
        task.models.say_whether_rounded()
    comparison = None
    if output.compare:
        comparison = compare_with_plain(decoder, target, request, generation)
    if output.json:
        print_json(_as_dict(generation, comparison))
    elif comparison is not None:
        messages().print(comparison.sentence(task.models.runtime.dtype), markup=True)
    return 0


def prepared(target: Model, text: str, task: Task) -> PreparedRequest:
    """The request in the target's terms.

    Raises:
        InputError: the prompt is empty or too long.
        SettingError: as `encode_text`; or stop strings or expected text need a tokenizer.
    """
    tokens, templated = encode_text(target, text, task.prompt.system_prompt, task.prompt.ignore_chat_template)
    request = Request(
        prompt=tokens,
        max_tokens=task.prompt.max_tokens,
        sampling=task.sampling,
        stop=task.prompt.stops,
        predicted=task.predicted,
        logprobs=task.output.asked_logprobs,
        structured=task.structured,
    )
    return replace(prepare_request(request, target, target.tokenizer), continues=not templated)


def encode_text(target: Model, text: str, system_prompt: str | None, ignore_chat_template: bool) -> EncodedPrompt:
    """The prompt's tokens, through the model's chat template where it has one.

    Raises:
        InputError: the model has no tokenizer, or the prompt is far too long for it.
        SettingError: there is a system prompt and nothing to put it into, or the chat template refuses the prompt.
    """
    if target.tokenizer is None:
        raise InputError(f"model {target.name} has no tokenizer beside it: give a model folder with tokenizer files")
    if system_prompt and ignore_chat_template:
        raise SettingError("--system-prompt needs a chat template: leave --ignore-chat-template out, or the prompt")
    chat = Chat(system_prompt, not ignore_chat_template)
    plain_prompt(text)  # of which no template is to blame
    try:
        return encode_prompt(text, limited(target.tokenizer, target.traits.context_length), target.name, chat)
    except TooLongError:
        raise
    except InputError as error:
        remedy = "leave out --system-prompt" if system_prompt else "leave it out, with --ignore-chat-template"
        raise SettingError(f"{error}: {remedy}") from error


def _as_dict(generation: Generation, comparison: Comparison | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "text": generation.text,
        "tokens": generation.tokens,
        "finish_reason": str(generation.finish_reason),
        "seed": generation.seed,
        "stats": generation.stats.as_dict(),
    }
    if generation.logprobs is not None:
        result["logprobs"] = generation.logprobs
    if generation.top_logprobs is not None:
        result["top_logprobs"] = generation.top_logprobs
    if comparison is not None:
        result["compare"] = asdict(comparison)
    return result


def _identity(models: ModelOptions) -> str:
    """Tells models apart in files of results, from whatever folder the command is given; other weights are another.

    Raises:
        ModelError: a model of the hub cannot be found.
    """
    path = Path(local(models.model)).expanduser()
    how = [models.target_backend, models.runtime.dtype or "auto", models.runtime.cache_type]
    if models.model == SMOLLM2:
        name, weights = SMOLLM2, None  # pinned by the package that holds it
    elif path.exists():
        name, weights = str(path.resolve()), weights_fingerprint(path)
    else:
        name, weights = models.model, hub_commit(models.model)
    return " ".join([name, *(part for part in (*how, weights) if part is not None)])
