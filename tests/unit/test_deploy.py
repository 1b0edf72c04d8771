"""The files of `deploy/` that other programs read, compared with the gateway: metrics, ports, paths, a configuration that is accepted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from werkzeug.test import Client

import compat
from compat.config.settings import load_settings
from compat.factory import build_gateway, create_app
from compat.telemetry.metrics import Metrics
from tests.unit.builders import NoTransport, StillClock

ROOT = Path(compat.__file__).parents[1]
DEPLOY = ROOT / "deploy"
NAME = re.compile(r"\b(?:openai_compat|gen_ai_(?:client|server))_[a-z_]+")
WRITTEN_LABELS = re.compile(r"\{([^{}]*)\}|\b(?:by|without|on|ignoring) \(([^()]*)\)")
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and the expression."""
    for group in yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((DEPLOY / "grafana-dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"].replace("$__rate_interval", "5m")


EXPRESSIONS = dict(expressions())


def known_series() -> dict[str, set[str]]:
    """The names of series, with their labels."""
    known: dict[str, set[str]] = {}
    endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    for collector in Metrics(is_shared=True)._registry._collector_to_names:
        metric: Any = collector
        for ending in endings[metric._type]:
            known[metric._name + ending] = {*metric._labelnames, *(("le",) if ending == "_bucket" else ())}
    return known


SERIES = known_series()


def document(kind: str, name: str = "openai-compat") -> dict[str, Any]:
    (found,) = [one for one in DOCUMENTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_what_is_drawn_and_alerted_on_is_measured(expression: str) -> None:
    names = set(NAME.findall(expression))
    assert names <= set(SERIES), "such a metric does not exist"
    labels = {"instance", "job", "le"}.union(*(SERIES[name] for name in names))
    written = {label.split("=")[0].strip(" !~") for found in WRITTEN_LABELS.findall(expression) for label in ",".join(found).split(",")}
    assert written - {""} <= labels
    assert names or "up{" in expression


@pytest.mark.heavy
@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_prometheus_can_read_the_expressions(expression: str) -> None:
    pytest.importorskip("promql_parser").parse(expression)


def test_every_alert_says_what_to_do() -> None:
    for group in yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            assert set(rule["annotations"]) == {"summary", "remedy"}, rule["alert"]
            assert rule["labels"]["severity"] in {"critical", "warning", "info"}


@pytest.mark.heavy
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_takes_the_documents(document: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    assert validate.validate(document, "1.37", strict=True)


def test_the_pods_are_what_the_image_and_the_gateway_are() -> None:
    stateful = document("StatefulSet")["spec"]
    pod = stateful["template"]["spec"]
    (container,) = pod["containers"]
    image = (DEPLOY / "Dockerfile").read_text()
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}" in image
    assert f"--uid {pod['securityContext']['runAsUser']} " in image
    assert container["image"].endswith(f":{compat.__version__}")
    (served,) = document("Service")["spec"]["ports"]
    assert (served["port"], served["targetPort"]) == (port["containerPort"], port["name"])
    labels = stateful["template"]["metadata"]["labels"]
    for selector in (stateful["selector"]["matchLabels"], document("Service")["spec"]["selector"]):
        assert selector == labels
    assert document("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]} | {"data"}
    assert {mounted["data"], mounted["logs"]} == set(json.loads(re.findall(r"^VOLUME (.*)$", image, re.M)[0]))
    assert container["securityContext"]["readOnlyRootFilesystem"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert Path(variables["OPENAI_COMPAT_CONFIG"]).parent == Path(mounted["config"])
    assert Path(variables["OPENAI_COMPAT_RUN_DIR"]).is_relative_to(mounted["tmp"])


def test_a_pod_has_the_time_that_its_answers_have_and_is_asked_at_paths_that_exist(tmp_path: Path) -> None:
    """The configuration is one that a gateway takes, and it answers a node and the Service by the names they use."""
    path = tmp_path / "config.toml"
    path.write_text(document("ConfigMap")["data"]["config.toml"])
    environment: dict[str, str] = document("Secret")["stringData"] | {"OPENAI_COMPAT_KEYS": "none.json"}
    settings = load_settings(path, environment)
    pod = document("StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    sleeps_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= settings.server.shutdown_s + sleeps_s + 10
    redis = document("Service", "openai-compat-redis")
    assert settings.storage.redis_url == f"redis://{redis['metadata']['name']}:{redis['spec']['ports'][0]['port']}/0"
    client = Client(create_app(build_gateway(settings, environment, tmp_path, clock=StillClock(), transport=NoTransport())))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == container["ports"][0]["name"]
        for host in ("10.1.2.3:28889", "openai-compat:28889", "openai-compat.default.svc.cluster.local:28889"):
            answer = client.get(asked["path"], headers={"host": host}, environ_overrides={"REMOTE_ADDR": "10.9.9.9"})
            assert answer.status_code == 200, (host, answer.text)
