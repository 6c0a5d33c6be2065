"""Spans for OpenTelemetry where RETOUCHE_OTLP_ENDPOINT says where to; without it nothing, not even an import.

Needs the `tracing` extra. A span's parent is what the work is about (retouche/about.py), whichever process
said so: an item is one trace from its worker through every service to its pair.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from retouche.about import about, current
from retouche.errors import RetoucheError
from retouche.settings import Settings

_PROVIDERS: list[Any] = []  # one, where spans are sent


def configure(process: str) -> None:
    """Send spans where the settings say, if they do."""
    if endpoint := Settings().otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        begin(process, BatchSpanProcessor(OTLPSpanExporter(endpoint)))


def begin(process: str, processor: Any) -> None:
    """Hand spans to an OpenTelemetry span processor."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=Resource.create({"service.name": f"retouche-{process}"}))
    provider.add_span_processor(processor)
    _PROVIDERS[:] = [provider]


def end() -> None:
    """Send what has not been sent: a work-horse ends without asking."""
    for provider in _PROVIDERS:
        provider.force_flush()


@contextmanager
def span(name: str) -> Iterator[None]:
    """A span of that name around the block, with what it is about."""
    if not _PROVIDERS:
        yield
        return
    from opentelemetry import trace

    known = current()
    parent = None
    if "trace" in known:
        identity = int(known["trace"], 16), int(known.get("span", known["trace"][:16]), 16)
        remote = trace.SpanContext(*identity, is_remote=True, trace_flags=trace.TraceFlags(1))
        parent = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    made = _PROVIDERS[0].get_tracer("retouche").start_span(name, parent)
    made.set_attributes({f"retouche.{key}": known[key] for key in ("job", "shard", "item") if key in known})
    context = made.get_span_context()
    try:
        with about(trace=f"{context.trace_id:032x}", span=f"{context.span_id:016x}"):
            yield
    except RetoucheError as error:
        made.record_exception(error)
        made.set_status(trace.StatusCode.ERROR)
        raise
    finally:
        made.end()
