"""What the work is about is in every log line, in every call of another process, and in every span."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from retouche import tracing
from retouche.about import about, current, headers, read, trace_of
from retouche.logs import Json, Lines

JOB = "job-0123456789abcdef"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Spans are kept in memory while the test runs."""
    exporter = InMemorySpanExporter()
    tracing.begin("test", SimpleSpanProcessor(exporter))
    yield exporter
    tracing._PROVIDERS.clear()


def logged(formatter: logging.Formatter, message: str) -> str:
    """The line that a logger writes."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(formatter)
    record = logging.LogRecord("retouche.worker", logging.INFO, __file__, 1, message, (), None)
    return handler.format(record)


def test_json_carries_what_the_work_is_about() -> None:
    with about(job=JOB, shard=3), about(item="192.0"):
        told = json.loads(logged(Json(), "committed"))
    assert (told["message"], told["job"], told["shard"], told["item"]) == ("committed", JOB, "3", "192.0")
    assert "job" not in json.loads(logged(Json(), "idle"))


def test_lines_for_people_say_it_at_the_end() -> None:
    with about(job=JOB, shard=3):
        assert logged(Lines(), "committed").endswith(f"INFO retouche.worker committed [job={JOB} shard=3]")


def test_items_side_by_side_keep_apart() -> None:
    async def item(number: int) -> str:
        with about(item=number):
            await asyncio.sleep(0)
            return current()["item"]

    async def both() -> list[str]:
        return list(await asyncio.gather(item(1), item(2)))

    assert asyncio.run(both()) == ["1", "2"]


def test_another_process_reads_what_a_call_carries() -> None:
    trace = trace_of(JOB, 192, 0)
    with about(job=JOB, shard=3, item="192.0", trace=trace):
        sent = headers()
    known = read(sent["traceparent"], sent["baggage"])
    assert known == {"job": JOB, "shard": "3", "item": "192.0", "trace": trace, "span": trace[:16]}
    assert headers() == {}


@pytest.mark.parametrize("traceparent", ["", "01-1-1-1", "00-" + "g" * 32 + "-" + "0" * 16 + "-01"])
@pytest.mark.parametrize("baggage", ["", "job=1", "retouche.job=a b\nc" * 100, "other=retouche"])
def test_what_is_no_such_header_is_left_out(traceparent: str, baggage: str) -> None:
    assert "trace" not in read(traceparent, baggage)
    assert all(value.isprintable() for value in read(traceparent, baggage).values())


def test_an_item_is_one_trace_across_processes(spans: InMemorySpanExporter) -> None:
    trace = trace_of(JOB, 192, 0)
    with about(job=JOB, item="192.0", trace=trace), tracing.span("item"), tracing.span("editing"):
        sent = headers()
    with about(**read(sent["traceparent"], sent["baggage"])), tracing.span("POST /v1/edit"):
        pass
    editing, item, request = spans.get_finished_spans()
    assert {format(span.context.trace_id, "032x") for span in (editing, item, request)} == {trace}
    assert request.parent is not None
    assert request.parent.span_id == editing.context.span_id
    assert item.attributes is not None
    assert item.attributes["retouche.item"] == "192.0"


def test_without_an_endpoint_there_are_no_spans() -> None:
    tracing.configure("test")
    with about(trace=trace_of(JOB, 0, 0)), tracing.span("item"):
        assert "span" not in current()
