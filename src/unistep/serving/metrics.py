"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unistep.serving.streams import Chunk

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds of the buckets of times."""
SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Bounds of the buckets of batches."""


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        """What ``/metrics`` shows."""
        own = self.registry
        self.requests = Counter(
            "unistep_requests_total", "Requests by route and status.", ("route", "status"), registry=own
        )
        self.answered = Histogram(
            "unistep_request_seconds",
            "Seconds from a request to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=own,
        )
        self.depth = Gauge("unistep_queue_depth", "Items that wait for the network.", registry=own)
        self.waited = Histogram("unistep_queue_seconds", "Seconds that items waited.", buckets=SECONDS, registry=own)
        self.sizes = Histogram("unistep_batch_size", "Items of a batch.", ("model",), buckets=SIZES, registry=own)
        self.took = Histogram(
            "unistep_network_seconds", "Seconds of a batch in the network.", ("model",), buckets=SECONDS, registry=own
        )
        self.refused = Counter(
            "unistep_refused_total", "Requests that there was no room for.", ("reason",), registry=own
        )
        self.late = Counter("unistep_deadline_misses_total", "Items that were not done in time.", registry=own)
        self.cancelled = Counter("unistep_cancelled_total", "Items whose client had left.", registry=own)
        self.streams = Gauge("unistep_streams", "Live streams.", registry=own)
        self.made = Counter("unistep_chunks_total", "Chunks of streams.", ("model",), registry=own)
        self.late_chunks = Counter("unistep_late_chunks_total", "Chunks that came too late.", ("model",), registry=own)
        self.dropped = Counter("unistep_dropped_chunks_total", "Chunks that an input made useless.", registry=own)

    def batch(self, model: str, size: int, seconds: float) -> None:
        """Count a batch."""
        self.sizes.labels(model).observe(size)
        self.took.labels(model).observe(seconds)

    def chunks(self, model: str, chunks: Sequence[Chunk], seconds: float) -> None:
        """Count the chunks of one batch of streams."""
        self.batch(model, len(chunks), seconds)
        self.made.labels(model).inc(len(chunks))
        self.late_chunks.labels(model).inc(sum(chunk.late for chunk in chunks))

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
