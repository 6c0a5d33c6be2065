"""The dashboard and the alert rules speak of metrics that there are; promtool reads the rules."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from retouche.metrics import CurationMetrics, QueueMetrics, ServiceMetrics, TrainerMetrics

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
DASHBOARD, RULES = FOLDER / "dashboard.json", FOLDER / "rules.yaml"
PROMTOOL = shutil.which("promtool")


def exported() -> set[str]:
    """The names of all series, as Prometheus stores them."""
    registry, services = CollectorRegistry(), ServiceMetrics().registry
    for metrics in (QueueMetrics, CurationMetrics, TrainerMetrics):
        metrics(registry)
    names = set()
    for family in (*registry.collect(), *services.collect()):
        endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
        names |= {family.name + ending for ending in endings[family.type]}
    return names


def expressions() -> list[str]:
    """Every PromQL expression of dashboard and rules."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    groups = yaml.safe_load(RULES.read_text())["groups"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    return asked + [rule["expr"] for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_that_is_asked_for_is_exported(expression: str) -> None:
    assert set(re.findall(r"retouche_\w+", expression)) <= exported()


def test_every_metric_that_is_exported_is_shown() -> None:
    shown = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in exported()}
    assert {family for family in families if family not in shown} == set()


def panels() -> list[dict[str, list[dict[str, str]]]]:
    found: list[dict[str, list[dict[str, str]]]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def test_every_alert_says_what_to_do() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
            assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_promtool_reads_the_rules() -> None:
    if PROMTOOL is None:
        assert not os.environ.get("CI"), "CI installs promtool (Debian's package `prometheus`)"
        pytest.skip("no promtool here (Debian's package `prometheus`)")
    for check in (["rules", str(RULES)], ["config", str(FOLDER / "prometheus.yaml")]):
        done = subprocess.run([PROMTOOL, "check", *check], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
