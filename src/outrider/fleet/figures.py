"""The figures of all replicas as those of one server, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from outrider.server.metrics import DECODE_SECONDS, GAIN, PLAIN_SECONDS, gain

KEPT = ("counter", "histogram")  # kinds that only rise: what a lost replica has counted stays
CREATED = "_created"  # ends the names of times: the earliest one stands
Place = tuple[str, tuple[tuple[str, str], ...]]  # name and labels of a number
Values = dict[Place, float]


class Figures(Collector):
    """Sums over replicas. What lost ones had counted when they were last asked stays in the sums."""

    def __init__(self) -> None:
        self._last: dict[int, list[Metric]] = {}
        self._gone: list[Metric] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self, told: Mapping[int, str], alive: Iterable[int]) -> bytes:
        """The sums in the text format of Prometheus.

        Args:
            told: what replicas say of themselves, in the same format, by their numbers.
            alive: numbers of all that there are. Of one that says nothing now, what it had counted before stands.
        """
        self._last |= {number: list(text_string_to_metric_families(text)) for number, text in told.items()}
        for number in self._last.keys() - set(alive):
            self._gone = list(_sums([self._gone, _risen(self._last.pop(number))]))
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for it."""
        yield from _sums([*self._last.values(), self._gone])


def _risen(families: Iterable[Metric]) -> list[Metric]:
    return [family for family in families if family.type in KEPT or family.name.endswith(CREATED)]


def _sums(parts: Iterable[Iterable[Metric]]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    values: dict[str, Values] = {}
    for part in parts:
        for family in part:
            families.setdefault(family.name, family)
            _add(values.setdefault(family.name, {}), family)
    for name, family in families.items():
        summed = Metric(name, family.documentation, family.type)
        for (sample, labels), value in values[name].items():
            summed.add_sample(sample, dict(labels), _gain_of(values, labels) if name == GAIN else value)
        yield summed


def _add(values: Values, family: Metric) -> None:
    for sample in family.samples:
        place = sample.name, tuple(sample.labels.items())
        if place not in values:
            values[place] = sample.value
        elif sample.name.endswith(CREATED):
            values[place] = min(values[place], sample.value)
        else:
            values[place] += sample.value


def _gain_of(values: Mapping[str, Values], labels: tuple[tuple[str, str], ...]) -> float:
    plain, taken = (values[name][f"{name}_total", labels] for name in (PLAIN_SECONDS, DECODE_SECONDS))
    return gain(plain, taken)
