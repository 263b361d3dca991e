"""What passes of the target cost an engine: its policy's curve, one that was kept, or one that is measured now."""

from __future__ import annotations

from collections.abc import Callable

from outrider.engine.kept_costs import KeptCosts, kept_costs
from outrider.engine.speculation import Speculations
from outrider.engine.warmup import longest_measured, measure_costs
from outrider.lookahead import CostCurve, LookaheadPolicy
from outrider.runtimes.base import Model, Session


class EngineCosts:
    """The cost curve of an engine, and where it is kept for the next one.

    Attributes:
        curve: refined by the passes that the engine runs.
    """

    def __init__(self, curve: CostCurve, kept: KeptCosts | None = None) -> None:
        self.curve = curve
        self._kept = kept

    @classmethod
    def find(
        cls,
        target: Model,
        session: Session,
        speculations: Speculations,
        lookahead: LookaheadPolicy,
        clock: Callable[[], float],
    ) -> EngineCosts:
        """The policy's curve; if a policy wants one and has none, what was kept of an earlier run, or measured now.

        Args:
            session: empty.
            clock: seconds.
        """
        traits, wants = target.traits, speculations.own.drafter.wants
        if lookahead.costs is not None:
            return cls(lookahead.costs)
        wanted = any(each.lookahead.wants_costs and each.present for each in speculations.all)
        if not wanted and not (traits.pads_rows and session.rows > 1):
            return cls(CostCurve())
        longest = min(session.capacity, longest_measured(traits.widest))
        kept = kept_costs(target, session.rows, longest, wants)
        curve = kept.read()
        if curve is None:
            ragged = traits.reads_in_any_pieces
            curve = measure_costs(session, traits.vocab_size, clock, wants, traits.buckets, traits.widest, ragged)
            kept.keep(curve)
        return cls(curve, kept)

    def keep_if_learned(self) -> None:
        """The engine is idle: the next one begins with what passes taught this one."""
        if self._kept is not None:
            self._kept.keep_if_learned(self.curve)
