"""The bodies that the load of an agent is made of have the shape of the real client's."""

import json

import pytest

from bench.bodies import CLAUDE_CODE_TOOLS
from bench.scenarios import PEER_SCENARIOS, Scenario, scenario_named

AGENT_ROWS = [row for row in PEER_SCENARIOS if row.agent]


def body(name: str) -> dict:
    return json.loads(scenario_named(name).body("gateway"))


def test_claude_code_sends_three_blocks_of_system_text_twelve_tools_and_its_thoughts():
    sent = body("Claude Code call")
    assert len(sent["system"]) == 3
    assert len(sent["tools"]) == CLAUDE_CODE_TOOLS == 12
    assert [message["role"] for message in sent["messages"][:4]] == ["user", "system", "assistant", "user"]
    assert {block["type"] for block in sent["messages"][2]["content"]} == {"thinking", "tool_use"}
    assert json.dumps(sent).count("cache_control") <= 4
    assert scenario_named("Claude Code call").chunks == 300


def test_codex_sends_all_items_and_nothing_is_stored():
    sent = body("Codex call")
    assert {tool["type"] for tool in sent["tools"]} == {"function", "namespace", "web_search"}
    assert {item["type"] for item in sent["input"]} == {"message", "function_call", "function_call_output"}
    assert (sent["store"], sent["include"]) == (False, ["reasoning.encrypted_content"])


@pytest.mark.parametrize("row", AGENT_ROWS, ids=lambda row: row.name)
def test_an_agent_speaks_its_own_protocol_to_the_mock_and_the_gateway_alike(row: Scenario):
    assert row.wire("direct") == row.wire("gateway") == {"claude-code": "anthropic", "codex": "responses"}[row.agent]
    assert row.path("direct") == row.path("gateway")


def test_upstreams_of_different_protocols_are_asked_for_models_of_different_names():
    names = {(row.upstream, row.is_tls): row.route for row in AGENT_ROWS}
    assert len(set(names.values())) == len(names) == 6
