"""What several replicas counted, told as one server would tell it."""

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from outrider.fleet.figures import Figures
from outrider.server.metrics import Metrics


def replica(tokens, running, first, plain, taken):
    found = Metrics("m")
    found.generation_tokens.inc(tokens)
    found.running.set(running)
    for seconds in first:
        found.first_token.observe(seconds)
    found.plain_seconds.inc(plain)
    found.decode_seconds.inc(taken)
    found.count_text("stop", 0.0, 1.0, 2.0, 0)
    return found.exposition().decode()


def numbers(exposition):
    families = text_string_to_metric_families(exposition.decode())
    return {
        (
            sample.name.removeprefix("outrider:"),
            *(value for name, value in sample.labels.items() if name != "model_name"),
        ): sample.value
        for family in families
        for sample in family.samples
    }


ONE, OTHER = replica(10, 2, [0.02, 3.0], 4.0, 2.0), replica(5, 1, [0.02], 1.0, 3.0)


def test_counters_gauges_and_histograms_are_summed_and_the_gain_is_that_of_all():
    found = numbers(Figures().exposition({1: ONE, 2: OTHER}, [1, 2]))
    assert found["generation_tokens_total",] == 15
    assert found["num_requests_running",] == 3
    assert found["request_success_total", "stop"] == 2
    assert found["time_to_first_token_seconds_count",] == 3
    assert found["time_to_first_token_seconds_bucket", "0.025"] == 2
    assert found["time_to_first_token_seconds_bucket", "+Inf"] == 3
    assert found["time_to_first_token_seconds_sum",] == pytest.approx(3.04)
    assert found["speculation_gain",] == 5.0 / 5.0
    created = [numbers(text.encode())["rounds_created",] for text in (ONE, OTHER)]
    assert found["rounds_created",] == pytest.approx(min(created))


def test_of_one_replica_the_figures_are_its_own():
    found, own = numbers(Figures().exposition({1: ONE}, [1])), numbers(ONE.encode())
    assert found.pop(("speculation_gain",)) == 4.0 / 2.0  # of the counters, which this test alone sets
    del own["speculation_gain",]
    assert found == own


def test_what_a_lost_replica_counted_stays_and_what_it_did_at_present_does_not():
    figures = Figures()
    figures.exposition({1: ONE, 2: OTHER}, [1, 2])
    for _ in range(2):  # its numbers are added once
        found = numbers(figures.exposition({2: OTHER}, [2]))
        assert found["generation_tokens_total",] == 15
        assert found["time_to_first_token_seconds_count",] == 3
        assert found["num_requests_running",] == 1
    newer = numbers(figures.exposition({2: OTHER, 3: ONE}, [2, 3]))
    assert newer["generation_tokens_total",] == 25


def test_a_replica_that_says_nothing_for_once_is_told_as_before():
    figures = Figures()
    figures.exposition({1: ONE, 2: OTHER}, [1, 2])
    assert numbers(figures.exposition({2: OTHER}, [1, 2]))["generation_tokens_total",] == 15
