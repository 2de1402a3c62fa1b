"""The server's own figures, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)


class _Counts(Collector):
    def __init__(
        self, name: str, text: str, label: str, read: Callable[[], Mapping[str, int]]
    ) -> None:
        self._name, self._text, self._label, self._read = name, text, label, read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in self._read().items():
            family.add_metric([value], count)
        yield family


class Metrics:
    """One server's; each has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "skep_api_requests_total",
            "Requests answered.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "skep_api_request_seconds",
            "Time to answer, for requests that aren't held open.",
            ["verb", "resource"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "skep_api_status_batch_size",
            "Statuses of tasks written together.",
            buckets=_BATCH,
            registry=self.registry,
        )
        self._status_retries = Counter(
            "skep_api_status_retries_total",
            "Statuses that had to be merged again after a conflict.",
            registry=self.registry,
        )

    def request(self, verb: str, resource: str, code: int, seconds: float | None) -> None:
        self._requests.labels(verb, resource, str(code)).inc()
        if seconds is not None:
            self._latency.labels(verb, resource).observe(seconds)

    def statuses(self, written: int, retried: int) -> None:
        self._batches.observe(written)
        if retried:
            self._status_retries.inc(retried)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A figure that is read when somebody asks."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def counts(
        self, name: str, text: str, label: str, read: Callable[[], Mapping[str, int]]
    ) -> None:
        """A figure for each value of a label, read when somebody asks."""
        self.registry.register(_Counts(name, text, label, read))

    def text(self) -> bytes:
        return generate_latest(self.registry)
