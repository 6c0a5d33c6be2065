"""Every metric that a process of ours exports, named in this one place.

    services, gateway   ServiceMetrics     requests, batches, the model, the memo
    gateway             QueueMetrics       what waits in RQ
    worker              CurationMetrics    stages as their callers see them, what became of images
    trainer             TrainerMetrics    how fast, how well

Needs prometheus-client, which the `serving` and `queue` extras bring. The dashboard and the alert rules in
deploy/monitoring use nothing else; a test holds them to it.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class ServiceMetrics:
    """Of everything that answers HTTP, in a registry of its own: several apps can live in one process."""

    def __init__(self) -> None:
        self.registry = at = CollectorRegistry()
        self.requests = Histogram(
            "retouche_request_seconds",
            "Time to answer a request",
            ["route", "status"],
            buckets=_SECONDS,
            registry=at,
        )
        self.batch_size = Histogram(
            "retouche_batch_size", "Items in one model call", buckets=_BATCHES, registry=at
        )
        self.model_seconds = Counter(
            "retouche_model_seconds_total", "Time the model was at work", registry=at
        )
        self.waiting = Gauge("retouche_waiting_items", "Items waiting for the model", registry=at)
        self.abandoned = Counter(
            "retouche_abandoned_items_total", "Items never run, their caller gone", registry=at
        )
        self.memo = Counter(
            "retouche_memo_answers_total", "Answers by memo outcome", ["outcome"], registry=at
        )


class QueueMetrics:
    """Of the queues in Redis; every replica of the gateway tells the same."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tasks = Gauge(
            "retouche_queue_tasks",
            "Shards and runs by queue and state: waiting, at_work, given_up",
            ["queue", "state"],
            registry=registry,
        )


class CurationMetrics:
    """Of a worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stage_seconds = Histogram(
            "retouche_stage_seconds",
            "Time from the first call of a stage to its answer, waits and repeats included",
            ["stage", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.outcomes = Counter(
            "retouche_outcomes_total",
            "Images and edits by what became of them: pair, or why there is none",
            ["outcome"],
            registry=registry,
        )
        self.shards = Counter(
            "retouche_shards_total",
            "Shards by how they ended: committed, given_up",
            ["ended"],
            registry=registry,
        )


class TrainerMetrics:
    """Of the run that a trainer is at, as last logged."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.step = Gauge("retouche_training_step", "Optimiser steps taken", registry=registry)
        self.pairs_per_second = Gauge(
            "retouche_training_pairs_per_second", "Preference pairs trained on a second", registry=registry
        )
        self.loss = Gauge("retouche_training_loss", "Mean loss", registry=registry)
        self.implicit_accuracy = Gauge(
            "retouche_training_implicit_accuracy",
            "Share of pairs whose chosen image is preferred",
            registry=registry,
        )
        self.reward_margin = Gauge(
            "retouche_training_reward_margin",
            "Mean implicit reward, chosen minus rejected",
            registry=registry,
        )
