"""`outrider serve`: an HTTP server for the clients that people have."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from outrider.cli.options.drafters import NONE, DrafterKind
from outrider.cli.options.drafting import LearnOption, SelfTuningOptions
from outrider.cli.options.group import option
from outrider.cli.options.models import ModelOptions
from outrider.cli.options.parallel import ParallelOptions
from outrider.cli.options.replicas import ReplicaOptions
from outrider.cli.options.sampling import SamplingOptions
from outrider.cli.served import Serving
from outrider.cli.serving import memories, own_kind
from outrider.cli.terminal import SafeFormatter, messages, working
from outrider.errors import ModelError, SettingError
from outrider.maths.sampling import SamplingParams

if TYPE_CHECKING:
    from outrider.server import Service

SERVER = "Server"
KEY_VARIABLE = "OUTRIDER_API_KEY"
INSTALL = "outrider serve needs more packages: pip install 'outrider[serve]'"
USUAL_TEMPERATURE = 1.0  # of OpenAI's API, where neither flags nor the model's makers say


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where the server listens, whom it serves, and how many at once."""

    host: Annotated[str, option("--host", "ADDRESS", "Where to listen; 0.0.0.0 is every network.", SERVER)] = (
        "127.0.0.1"
    )
    port: Annotated[int, option("--port", "N", "0 takes a free one.", SERVER)] = 8000
    api_key: Annotated[
        list[str] | None,
        option("--api-key", "KEY", f"A key that requests must show. Repeatable. Also ${KEY_VARIABLE}.", SERVER),
    ] = None
    served_model_name: Annotated[
        list[str] | None,
        option("--served-model-name --alias -a", "NAME", "The model's name for clients. Repeatable.", SERVER),
    ] = None
    max_rows: Annotated[
        int, option("--max-rows --max-num-seqs --parallel -np", "N", "Texts that are decoded at once.", SERVER)
    ] = 8
    max_tokens: Annotated[
        int | None,
        option(
            "--max-tokens -n --n-predict",
            "N",
            "The most tokens of a text, where a request does not say. Default: as many as fit into a row.",
            SERVER,
        ),
    ] = None
    max_waiting: Annotated[int, option("--max-waiting", "N", "Texts that may wait for a row.", SERVER)] = 256
    max_body_mb: Annotated[int, option("--max-body-mb", "N", "The largest request, in MB.", SERVER)] = 10
    stall_seconds: Annotated[
        int, option("--stall-seconds", "N", "Drop clients that read nothing for so long.", SERVER)
    ] = 60
    drain_seconds: Annotated[
        int, option("--drain-seconds", "N", "After SIGTERM, how long running texts may take to end.", SERVER)
    ] = 60
    cors_origin: Annotated[
        list[str] | None,
        option("--cors-origin", "URL", "A web page's origin that may ask. Repeatable. Default: none.", SERVER),
    ] = None
    share_memory: Annotated[
        bool,
        option("--share-memory", None, "Let texts of all API keys teach one drafter; timing may tell of them.", SERVER),
    ] = False
    learn: LearnOption = False
    no_prefix_caching: Annotated[
        bool, option("--no-prefix-caching", None, "Read every prompt from its first token.", SERVER)
    ] = False
    access_log: Annotated[bool, option("--access-log", None, "A line for each request.", SERVER)] = False
    spec_decode_metrics: Annotated[
        bool,
        option("--per-request-spec-decode-metrics", None, "Put vLLM's metrics into every reply.", SERVER),
    ] = False

    def check(self) -> None:
        """Raises SettingError where a value is out of its range."""
        for name, value, least, most in (
            ("--port", self.port, 0, 65535),
            ("--max-body-mb", self.max_body_mb, 1, 1024),
            ("--stall-seconds", self.stall_seconds, 1, 86400),
            ("--drain-seconds", self.drain_seconds, 0, 86400),
        ):
            if not least <= value <= most:
                raise SettingError(f"{name} is {value}: it must be from {least} to {most}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise SettingError(f"--max-tokens is {self.max_tokens}: it must be at least 1")
        if "" in self.keys:
            raise SettingError("an --api-key is empty: give at least one character, or leave it out")

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys; empty where everybody is let in."""
        if self.api_key:
            return tuple(self.api_key)
        from_environment = os.environ.get(KEY_VARIABLE)
        return (from_environment,) if from_environment else ()

    @property
    def isolations(self) -> Sequence[str]:
        """What keeps apart the texts of each API key."""
        from outrider.server.keys import isolation_of, tenant_of  # other commands do without the server's packages

        return [isolation_of(tenant_of(key)) for key in dict.fromkeys(self.keys)]


def command(
    models: ModelOptions,
    drafting: SelfTuningOptions,
    sampling: SamplingOptions,
    parallel: ParallelOptions,
    replicas: ReplicaOptions,
    server: ServerOptions,
) -> int:
    """Serve a model over HTTP, decoded speculatively: OpenAI's and other APIs, and a page at /."""
    server.check()
    models = parallel.check(models)
    replicas.check(
        {
            "--tensor-parallel": parallel.tensor_parallel is not None,
            "--drafter-state": drafting.drafter_state is not None,
            "--learn": server.learn,
        }
    )
    _require_packages()
    kept = memories(drafting.drafter_state, server.isolations, server.share_memory)
    kind = own_kind(drafting.kind(models), drafting, models, kept)
    if server.learn:
        kind = _learning(kind, kept.apart, parallel)
    lookahead = drafting.policy(kind)
    if drafting.predicted(kind):
        raise SettingError("--predict is for one answer: requests say it themselves, with prediction")
    serving = Serving(models, kind, lookahead, drafting.rule, _sampling(sampling, models.model), server, kept.apart)
    if replicas.replicas is not None:
        return _serve_replicas(serving, replicas, server)
    listening = _listen(server) if parallel.leads else None
    with parallel.target(models) as target:
        if target is None or listening is None:
            return 0
        drafter = kind.open(models.open_draft, target)
        _serve(serving.service(target, drafter), serving, server, listening)
        kept.save(drafter)
    return 0


def _learning(kind: DrafterKind, apart: bool, parallel: ParallelOptions) -> DrafterKind:
    """The kind, whose head learns.

    Raises:
        SettingError: no head drafts, or what is learned would tell of one key's texts to another.
    """
    if apart:
        raise SettingError(
            "--learn trains one head on the texts of all API keys, and timing may tell of them: give --share-memory too"
        )
    if parallel.tensor_parallel is not None:
        raise SettingError("--learn is for one process and --tensor-parallel is given: leave one of them out")
    return kind.learning(lambda line: messages().print(line, style="dim"))


def _serve(service: Service, serving: Serving, options: ServerOptions, listening: socket.socket) -> None:
    # Here, since another command does without these packages.
    from outrider.server import create_app
    from outrider.server.running import run

    app = create_app(service, cors_origins=options.cors_origin or ())
    _say(serving, f"{options.max_rows} rows of {service.capacity} tokens", listening)
    run(app, listening, drain_seconds=options.drain_seconds, access_log=options.access_log)


def _serve_replicas(serving: Serving, replicas: ReplicaOptions, options: ServerOptions) -> int:
    try:
        from outrider.fleet.actors import RayActors
        from outrider.fleet.door import create_door
        from outrider.fleet.replicas import Replicas
    except ImportError as error:
        raise ModelError("--replicas needs more packages: pip install 'outrider[ray,serve]'") from error
    from outrider.server.running import run

    count, runtime = replicas.replicas, serving.models.runtime
    assert count is not None
    listening = _listen(options)
    with working(f"starting {count} replicas"):
        actors = RayActors(serving.service_with, count, replicas.address, runtime.threads, runtime.device != "cpu")
        try:
            fleet = Replicas(actors, options.max_rows, options.drain_seconds)
            first = actors.start_all(count)
        except BaseException:
            actors.close()
            raise
    try:
        app = create_door(fleet, first, serving.limits, options.cors_origin or ())
        _say(serving, f"{count} replicas of {options.max_rows} rows", listening)
        run(app, listening, drain_seconds=options.drain_seconds, access_log=options.access_log)
    finally:
        actors.close()
    return 0


def _say(serving: Serving, size: str, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    what = "decoded plainly" if serving.kind.name == NONE else f"drafter {serving.kind}"
    messages().print(f"{serving.names[0]} · {what} · {size} · http://{shown}:{port}  (API: /v1)")
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter())
    logging.getLogger("outrider").addHandler(handler)


def _listen(options: ServerOptions) -> socket.socket:
    """The socket, opened before the model, so that a port that is taken is refused at once.

    Raises:
        SettingError: it cannot be opened.
    """
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or error
        raise SettingError(
            f"the server cannot listen on {options.host} port {options.port} ({reason}): give another --host or --port"
        ) from error


def _sampling(options: SamplingOptions, model: str) -> SamplingParams:
    """What holds where a request says nothing: the flags, the model's own settings, or OpenAI's temperature."""
    found = options.params(model)
    if options.temp is None and found.greedy:
        return replace(found, temperature=USUAL_TEMPERATURE)
    return found


def _require_packages() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ModelError(INSTALL) from error
