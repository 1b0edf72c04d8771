"""The configuration that the benchmarks give to the gateway."""

from pathlib import Path

import pytest

from bench.processes import Running
from bench.run import write_config
from bench.scenarios import PEER_SCENARIOS, SCENARIOS
from compat.config.settings import load_settings

MOCK = Running(1, 4001, 0.0, 4002)


@pytest.mark.parametrize("has_tls", [False, True])
def test_the_gateway_takes_the_configuration_and_knows_every_scenarios_model(has_tls: bool, tmp_path: Path):
    settings = load_settings(write_config(tmp_path, MOCK, tmp_path / "ca.pem" if has_tls else None, port=4000), {})
    assert settings.server.port == 4000
    assert {row.route for row in (*SCENARIOS, *PEER_SCENARIOS) if has_tls or not row.is_tls} == set(settings.models)
    assert ("mock-tls" in settings.upstreams) is has_tls
