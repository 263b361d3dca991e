"""What `outrider serve` serves, once all flags have been checked: here, or in a process of Ray."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import outrider
from outrider.cli.options.drafters import DrafterKind
from outrider.cli.options.models import ModelOptions
from outrider.cli.serving import offered
from outrider.cli.terminal import working
from outrider.drafters.base import Drafter
from outrider.engine.record import Observer
from outrider.lookahead import AdaptiveSpeculator
from outrider.maths.rules import RuleName
from outrider.maths.sampling import SamplingParams
from outrider.runtimes.base import Model

if TYPE_CHECKING:
    from outrider.server import Limits, Service


class ServiceOptions(Protocol):
    """The flags of the command that a service depends on."""

    @property
    def served_model_name(self) -> list[str] | None: ...
    @property
    def max_rows(self) -> int: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def max_waiting(self) -> int: ...
    @property
    def max_body_mb(self) -> int: ...
    @property
    def stall_seconds(self) -> int: ...
    @property
    def no_prefix_caching(self) -> bool: ...
    @property
    def spec_decode_metrics(self) -> bool: ...
    @property
    def keys(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Serving:
    """Models and settings of a service; it can be pickled.

    Attributes:
        sampling: what holds where a request says nothing.
        apart: whether each API key has a memory of its own.
    """

    models: ModelOptions
    kind: DrafterKind
    lookahead: int | AdaptiveSpeculator | None
    rule: RuleName
    sampling: SamplingParams
    options: ServiceOptions
    apart: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Of the model, for clients."""
        return tuple(self.options.served_model_name or [self.models.model])

    @property
    def limits(self) -> Limits:
        """On requests."""
        from outrider.server import Limits  # here, since another command does without these packages

        return Limits(body_bytes=self.options.max_body_mb * 2**20, stalled_seconds=self.options.stall_seconds)

    def service(self, target: Model, drafter: Drafter | None) -> Service:
        """The service of this target, with an engine of its own."""
        from outrider.server import Service, ServiceSettings

        others = offered(self.kind, target, self.apart)

        def open_engine(observer: Observer) -> outrider.Engine:
            with working("measuring what a pass costs"):
                return outrider.Engine(
                    target,
                    drafter,
                    drafters=others.drafters,
                    lookahead=self.lookahead,
                    rule=self.rule,
                    max_rows=self.options.max_rows,
                    max_waiting=self.options.max_waiting,
                    prefix_caching=not self.options.no_prefix_caching,
                    observer=observer,
                )

        settings = ServiceSettings(
            models=self.names,
            sampling=self.sampling,
            max_tokens=self.options.max_tokens,
            rule=self.rule,
            drafter=self.kind.name,
            drafters=others.offers,
            limits=self.limits,
            api_keys=self.options.keys,
            copies=self.kind.suffixes,
            metrics=self.options.spec_decode_metrics,
        )
        return Service(open_engine, settings)

    def service_with(self, threads: int) -> Service:
        """The same with models that are opened here, and compute with so many threads."""
        models = replace(self.models, runtime=replace(self.models.runtime, threads=threads))
        target = models.open_target()
        return self.service(target, self.kind.open(models.open_draft, target))
