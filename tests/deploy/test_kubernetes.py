"""What deploy/k8s becomes matches the code; `make manifests` holds it against Kubernetes' own schemas."""

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from retouche.contract.stages import STAGES
from retouche.coordination import CURATE_QUEUE, TRAIN_QUEUE
from tests.deploy.test_components import MODULES, PORTS, ROOT, all_settings

Manifest = dict[str, Any]
KUBERNETES = ROOT / "deploy" / "k8s"


def rendered(overlay: str) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl on the PATH")
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def base() -> list[Manifest]:
    return rendered("base")


@pytest.fixture(scope="module")
def everything() -> list[Manifest]:
    return rendered("overlays/everything")


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {found["metadata"]["name"]: found for found in manifests if found["kind"] == kind}


def container(deployment: Manifest) -> Manifest:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def secret_files(pod: Manifest) -> Iterator[str]:
    """Names of the files that a pod gets from secrets."""
    for volume in pod["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            yield from (item["path"] for item in source["secret"]["items"])


def images(part: object) -> Iterator[str]:
    """What every container in a manifest, or in a part of one, is started from."""
    if isinstance(part, list):
        yield from (image for one in part for image in images(one))
    elif isinstance(part, dict):
        yield from (found["image"] for found in part.get("containers", []))
        yield from (image for one in part.values() for image in images(one))


@pytest.mark.parametrize("component", MODULES)
def test_every_component_is_deployed_with_probes_limits_and_a_budget(
    base: list[Manifest], component: str
) -> None:
    pod = container(of_kind(base, "Deployment")[component])
    assert f"/retouche-{component}@sha256:" in pod["image"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(pod)
    assert set(pod["resources"]) == {"requests", "limits"}
    assert component in of_kind(base, "PodDisruptionBudget")
    if component in PORTS:
        assert pod["ports"] == [{"name": "http", "containerPort": PORTS[component]}]
        assert of_kind(base, "Service")[component]["spec"]["ports"][0]["port"] == PORTS[component]
        assert pod["lifecycle"]["preStop"]


def test_the_image_that_make_push_does_not_push_is_the_public_one_of_compose(
    everything: list[Manifest],
) -> None:
    """`make push` notes where our own images are; that of vLLM is to be found without it."""
    public = [image for image in images(everything) if "/retouche-" not in image]
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert public == [composed["vllm"]["image"]]


def test_services_are_headless_so_that_callers_see_every_replica(base: list[Manifest]) -> None:
    services = of_kind(base, "Service")
    assert {services[stage]["spec"]["clusterIP"] for stage in STAGES} == {"None"}


def test_what_pods_are_told_is_what_settings_read(base: list[Manifest]) -> None:
    (settings,) = of_kind(base, "ConfigMap").values()
    assert set(settings["data"]) <= all_settings()
    for stage in STAGES:
        assert settings["data"][f"RETOUCHE_{stage.upper()}_URL"] == f"http://{stage}:{PORTS[stage]}"
    for deployment in of_kind(base, "Deployment").values():
        assert set(secret_files(deployment["spec"]["template"]["spec"])) <= all_settings()


def test_only_what_talks_to_redis_knows_its_password(base: list[Manifest]) -> None:
    knowing = {
        name
        for name, deployment in of_kind(base, "Deployment").items()
        if "RETOUCHE_REDIS_URL" in secret_files(deployment["spec"]["template"]["spec"])
    }
    assert knowing == {"gateway", "worker", "trainer"}


def test_nothing_is_reached_that_is_not_named(base: list[Manifest]) -> None:
    nothing = of_kind(base, "NetworkPolicy")["nothing"]["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_replicas_follow_the_queues(everything: list[Manifest]) -> None:
    scaled = of_kind(everything, "ScaledObject")
    assert set(scaled) == {*STAGES, "worker"}
    (trigger,) = scaled["worker"]["spec"]["triggers"]
    assert trigger["metadata"]["listName"] == f"rq:queue:{CURATE_QUEUE}"
    for stage in STAGES:
        (trigger,) = scaled[stage]["spec"]["triggers"]
        assert "retouche_waiting_items" in trigger["metadata"]["query"]


def test_a_training_run_is_a_job_with_a_process_for_each_gpu(everything: list[Manifest]) -> None:
    assert "trainer" not in of_kind(everything, "Deployment")
    job = of_kind(everything, "ScaledJob")["training"]["spec"]
    (trigger,) = job["triggers"]
    (trainer,) = job["jobTargetRef"]["template"]["spec"]["containers"]
    assert trigger["metadata"]["listName"] == f"rq:queue:{TRAIN_QUEUE}"
    assert trainer["command"] == ["python", "-m", "trainer", "--once"]
    gpus = trainer["resources"]["limits"]["nvidia.com/gpu"]
    assert trainer["env"] == [{"name": "RETOUCHE_TRAIN_PROCESSES", "value": gpus}]
    (reference,) = trainer["envFrom"]
    settings = of_kind(everything, "ConfigMap")[reference["configMapRef"]["name"]]
    assert settings["data"]["RETOUCHE_VLM_URL"] == "http://vllm:8000/v1"


def test_keda_speaks_tls_to_redis_as_the_documented_address_does(everything: list[Manifest]) -> None:
    assert "RETOUCHE_REDIS_URL=rediss://" in (KUBERNETES / "README.md").read_text()
    scaled = of_kind(everything, "ScaledObject") | of_kind(everything, "ScaledJob")
    for name in ("worker", "training"):
        (trigger,) = scaled[name]["spec"]["triggers"]
        assert trigger["metadata"]["enableTLS"] == "true", name


def test_prometheus_gets_the_rules_and_grafana_the_dashboard(everything: list[Manifest]) -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "monitoring" / "rules.yaml").read_text())
    assert of_kind(everything, "PrometheusRule")["retouche"]["spec"] == rules
    dashboard = of_kind(everything, "ConfigMap")["retouche-dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert (
        dashboard["data"]["dashboard.json"] == (ROOT / "deploy" / "monitoring" / "dashboard.json").read_text()
    )


def test_everything_with_meters_is_scraped(everything: list[Manifest]) -> None:
    (endpoint,) = of_kind(everything, "PodMonitor")["retouche"]["spec"]["podMetricsEndpoints"]
    for name in (*STAGES, "gateway", "worker"):
        assert container(of_kind(everything, "Deployment")[name])["ports"][0]["name"] == endpoint["port"]


def test_overlays_are_all_there() -> None:
    names = {path.name for path in (KUBERNETES / "overlays").iterdir()}
    assert names == {"gpu", "keda", "monitoring", "everything"}
