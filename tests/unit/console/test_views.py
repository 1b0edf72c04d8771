"""What the views show of stored calls, to whom, and that the words of others are text in them."""

from __future__ import annotations

import csv
import html
import html.parser
import io
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from compat.accounting.keys import new_key
from compat.accounting.usage_queries import cost, overview
from compat.accounting.usage_rows import CallFacts
from compat.accounting.usage_views import CostRow, FailedAttempt, Sums
from compat.calls.gateway import Gateway
from compat.config.settings import merge
from compat.console.cost import MOST_ROWS, largest
from compat.console.figures import Figures
from compat.console.texts import page_texts
from compat.errors import UpstreamFailure
from compat.factory import create_app
from compat.routing.circuit import CircuitKey
from compat.wire.usage import cost_of
from tests.unit.accounting.stored_calls import PRICE, USED
from tests.unit.builders import KEY, make_gateway
from tests.unit.console.test_access import ADA_HASH, BOB, BOB_HASH, signed_in

EVIL = "<img src=x onerror=alert(1)>"
SETTINGS: dict[str, Any] = {
    "upstreams": {"up": {"kind": "openai", "base_url": "http://up.example/v1", "api_keys": [KEY]}},
    "models": {"sonnet": {"route": ["up/m"]}},
    "keys": {"ada": {"hash": ADA_HASH, "console": True}, "bob": {"hash": BOB_HASH}, "mallory": {"hash": new_key()[1]}},
    "limits": {"budgets": {"bob": {"month_usd": 20.0}}},
}


LAST_SECOND_S = 1_701_388_799.0
"""Of November 2023."""


class Tags(html.parser.HTMLParser):
    """The tags and attributes of a page, as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def add(gateway: Gateway, number: int, **changes: Any) -> None:
    """A call, which is written down."""
    usage: Any = gateway.usage
    record = {
        "request_id": f"r{number}",
        "client": "bob",
        "model": "sonnet",
        "deployment": "up/m",
        "outcome": "ok",
        "status": 200,
        "attempts": 1,
        "duration_ms": 2000.0,
        "ttft_ms": 500.0,
        "prompt_tokens": USED.prompt_tokens,
        "completion_tokens": USED.completion_tokens,
        "cache_read_tokens": USED.cache_read_tokens,
        "cache_write_tokens": USED.cache_write_tokens,
        "cost_usd": cost_of(USED, PRICE),
    }
    facts = changes.pop("facts", CallFacts("openai.chat", "anthropic.messages", session=f"s-{number}", priced=((USED, PRICE),)))
    usage.add(record | changes, facts)
    usage.flush()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways, whose usage stores are closed in the end."""
    made: list[Gateway] = []

    def make(settings: Mapping[str, Any] = SETTINGS) -> Gateway:
        made.append(make_gateway(tmp_path, settings))
        return made[-1]

    yield make
    for gateway in made:
        gateway.usage.close()


@pytest.fixture
def gateway(make: Callable[..., Gateway]) -> Gateway:
    """One call of bob's; one of mallory's, with hostile words wherever there can be some."""
    gateway = make()
    add(gateway, 1)
    facts = CallFacts(
        "anthropic.messages",
        "openai.chat",
        session=f"mallorys-{EVIL}",
        queue_ms=12.0,
        failed=(FailedAttempt(f"up/{EVIL}", f"no {EVIL}", f"code{EVIL}", "retry", 250.0),),
        tools=lambda: {f"tool-{EVIL}": 3},
        priced=((USED, PRICE),),
    )
    words = {"model": f"mallorys-{EVIL}", "deployment": f"up/{EVIL}", "error": f"mallorys error {EVIL}", "code": f"code{EVIL}"}
    more = {"notes": f"dropped=temperature,{EVIL}; {EVIL}=x", "cache_lost": f"messages[{EVIL}]", "stop_reason": f"end{EVIL}"}
    add(gateway, 2, client="mallory", outcome="error", status=502, facts=facts, **words, **more)
    return gateway


MALLORYS = "/sessions/one?" + urllib.parse.urlencode({"key": "mallory", "id": f"mallorys-{EVIL}"})
VIEWS = ["/", "/live", "/calls", "/calls/2", "/sessions", MALLORYS, "/keys", "/try"]
VIEWS += [f"/cost?by={column}" for column in ("model", "upstream", "key", "session")]
FEEDS = ["/calls.csv", "/calls.json", "/try/receipt?id=r2", *(f"/cost.{form}?by=session" for form in ("csv", "json"))]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("path", VIEWS)
def test_promise_15_hostile_words_are_text(gateway: Gateway, path: str, language: str) -> None:
    answer = signed_in(gateway).get(path, headers={"accept-language": language})
    assert answer.status_code == 200
    page = Tags()
    page.feed(answer.text)
    assert page.tags & {"table", "main"}
    assert not page.tags & {"img", "iframe", "object", "b"}
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}


@pytest.mark.parametrize("path", ["/calls", "/calls/2", "/sessions", "/cost", "/cost?by=key"])
def test_what_others_wrote_is_shown_whole(gateway: Gateway, path: str) -> None:
    wanted = "mallory" if "key" in path else f"mallorys-{EVIL}"
    assert wanted in html.unescape(signed_in(gateway).get(path).text)


@pytest.mark.parametrize("path", [*VIEWS, *FEEDS])
def test_promise_19_an_ordinary_key_sees_nothing_of_anybody_else(gateway: Gateway, path: str) -> None:
    answer = signed_in(gateway, BOB).get(path)
    assert "mallory" not in answer.text.replace(html.escape(path.partition("?")[2]), "")
    assert answer.status_code == (404 if path in {"/calls/2", MALLORYS} else 200)


def test_filters_can_not_widen_what_a_key_sees(gateway: Gateway) -> None:
    client = signed_in(gateway, BOB)
    for query in ("key=mallory", "session=mallorys", "model=mallorys"):
        assert client.get(f"/calls.json?{query}").json == []


def test_one_call_shows_how_it_went_and_what_it_cost(gateway: Gateway) -> None:
    text = html.unescape(signed_in(gateway).get("/calls/2").text)
    for words in (
        f"Attempt 1: up/{EVIL}",
        f"no {EVIL}",
        "then retry, after 250 ms",
        "Waited for room: 12 ms",
        "left out, for the upstream",
        "×",
    ):
        assert words in text, words
    rows = dict(
        re.findall(r'<tr><td>([^<]*)</td><td class="n">[^<]*</td><td class="n">[^<]*</td><td class="n">\$([0-9.]+)</td></tr>', text)
    )
    assert set(rows) == {"input", "input, read from the cache", "input, written to the cache", "output"}
    total = re.search(r"<tfoot>.*?\$([0-9.]+)</td></tr></tfoot>", text)
    assert total is not None
    assert sum(map(float, rows.values())) == pytest.approx(float(total[1]))


def test_the_request_is_shown_where_the_log_keeps_it_and_to_whom_it_belongs(make: Callable[..., Gateway]) -> None:
    gateway = make(merge(SETTINGS, {"log": {"prompts": True}}))
    add(gateway, 1)
    gateway.log.request("r1", "bob", b'{"canary": "<b>"}')
    gateway.log.flush()
    assert '{"canary": "<b>"}' in html.unescape(signed_in(gateway, BOB).get("/calls/1").text)
    assert "canary" not in signed_in(make(), BOB).get("/calls/1").text


def test_the_overview_and_the_cost_say_what_the_store_says(gateway: Gateway) -> None:
    client, figures, now_s = signed_in(gateway), Figures(), gateway.clock.now()
    sums = overview(gateway.usage, now_s).sums
    assert (sums.calls, sums.errors) == (2, 1)
    assert f"<dd>{figures.money(sums.cost_usd)}</dd>" in client.get("/").text
    rows = list(csv.DictReader(io.StringIO(client.get("/cost.csv?by=key").text)))
    stored = cost(gateway.usage, ("day", "key"), now_s)
    assert [(row["key"], float(row["cost_usd"])) for row in rows] == [(row.group[1], row.sums.cost_usd) for row in stored]
    assert client.get("/cost.json?by=key").json == [
        {name: float(value) if name.endswith("_usd") else int(value) if value.isdigit() else value for name, value in row.items()}
        for row in rows
    ]


def test_a_name_that_begins_like_a_formula_is_text_in_a_table(gateway: Gateway) -> None:
    add(gateway, 3, model='=HYPERLINK("x"),1')
    client = signed_in(gateway)
    for path in ("/cost.csv", "/calls.csv"):
        models = [row["model"] for row in csv.DictReader(io.StringIO(client.get(path).text))]
        assert """'=HYPERLINK("x"),1""" in models, path


def test_pages_of_calls_follow_each_other(gateway: Gateway) -> None:
    for number in range(3, 60):
        add(gateway, number)
    client = signed_in(gateway)
    path, seen = "/calls?model=sonnet", list[str]()
    while path:
        text = client.get(path).text
        seen += re.findall(r'href="/calls/(\d+)"', text)
        older = re.search(r'href="([^"]*)" rel="next"', text)
        path = html.unescape(older[1]) if older else ""
    assert seen == [str(number) for number in (*range(59, 2, -1), 1)]


@pytest.mark.parametrize(
    "query", ["outcome=bad", "span=century", "status=x", "since=x", "until=2026-13-01", "before=-1", "before=" + "9" * 30]
)
def test_a_wrong_filter_is_a_page_that_says_so(gateway: Gateway, query: str) -> None:
    answer = signed_in(gateway).get(f"/calls?{query}&lang=zh")
    assert (answer.status_code, answer.mimetype) == (400, "text/html")
    assert query.partition("=")[0] + ":" in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [("/calls/x", 404), ("/calls/" + "9" * 40, 404), ("/cost?days=1", 400), ("/live?level=x", 400), ("/sessions?before=x", 400)],
)
def test_a_wrong_url_is_a_page_that_says_so(gateway: Gateway, path: str, status: int) -> None:
    answer = signed_in(gateway).get(path)
    assert (answer.status_code, answer.mimetype) == (status, "text/html")


def test_budgets_show_what_is_used_and_where_it_goes(gateway: Gateway) -> None:
    for path in ("/", "/keys"):
        text = re.sub(r"\s+", " ", signed_in(gateway, BOB).get(path).text)
        assert re.search(r'<progress max="20.0" value="0\.0\d*" aria-label="bob, month"></progress> \$0\.00\d+ / \$20\.00', text), path
        assert "forecast" in text
    assert "bob, month" in signed_in(gateway).get("/").text


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("spent", "share", "is_exceeded"),
    [(0.5, 0.0, False), (15.9, 0.0, False), (16.1, 0.8, False), (19.0, 0.95, False), (25.0, 1.0, True)],
)
def test_a_budget_that_is_nearly_used_is_named_on_the_first_page(
    make: Any, language: Any, spent: float, share: float, *, is_exceeded: bool
) -> None:
    gateway = make()
    gateway.clock.now_s = LAST_SECOND_S  # at which the forecast is what was spent
    words, figures = page_texts("overview")[language], Figures(language)
    add(gateway, 1, cost_usd=spent)
    text = html.unescape(signed_in(gateway, BOB).get(f"/?lang={language}").text)
    assert (words["tight"] in text) == bool(share)
    assert (f"{figures.share(share)} {words['used']}, " in text) == bool(share)
    assert (f"; {words['will_be_exceeded']} {figures.money(spent)}" in text) == is_exceeded


def test_a_budget_that_will_not_last_is_named_before_it_is_used(make: Any) -> None:
    gateway = make()
    gateway.clock.now_s = LAST_SECOND_S - 20 * 86_400
    add(gateway, 1, cost_usd=10.0)
    assert "50% used, $10.00 / $20.00; forecast for the end of the month: $" in signed_in(gateway, BOB).get("/").text


def test_a_receipt_is_of_the_visitors_own_call(gateway: Gateway) -> None:
    assert signed_in(gateway).get("/try/receipt?id=r2").json["url"] == "/calls/2"
    assert signed_in(gateway, BOB).get("/try/receipt?id=r2").json == {}
    assert signed_in(gateway, BOB).get("/try/receipt?id=r1").json["output"] == "100"


def test_a_receipt_is_found_behind_many_later_calls(gateway: Gateway) -> None:
    for number in range(3, 103):
        add(gateway, number)
    assert signed_in(gateway).get("/try/receipt?id=r2").json["url"] == "/calls/2"


def test_a_call_by_hand_is_made_under_the_visitors_name(gateway: Gateway) -> None:
    body = json.dumps({"model": "nobody", "messages": [{"role": "user", "content": "Hi"}]})
    answer = signed_in(gateway, BOB).post("/try?api=openai.chat", data=body, content_type="application/json")
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "model_not_found")
    usage: Any = gateway.usage
    usage.flush()
    [row] = [row for row in signed_in(gateway, BOB).get("/calls.json").json if row["status"] == 404]
    assert row["key"] == "bob"


def test_without_calls_every_view_says_what_to_do(make: Callable[..., Gateway]) -> None:
    client = Client(create_app(make({})))
    for path in ("/", "/live", "/calls", "/sessions", "/cost"):
        text = client.get(path).text
        assert 'href="/try"' in text.split("<main")[1] or 'href="/setup"' in text.split("<main")[1], path


def test_where_usage_is_not_kept_the_views_say_so(make: Callable[..., Gateway]) -> None:
    client = Client(create_app(make({"usage": {"enabled": False}})))
    for path in ("/", "/calls", "/sessions", "/cost", "/keys"):
        assert "[usage] enabled = true" in client.get(path).text, path


def test_filters_by_day_and_their_form(gateway: Gateway) -> None:
    client, today = signed_in(gateway), "2023-11-14"
    for query, count in ((f"since={today}", 2), (f"until={today}", 2), ("since=2023-11-15", 0), ("until=2023-11-13", 0), ("span=hour", 2)):
        assert len(client.get(f"/calls.json?{query}").json) == count, query
    assert f'name="since" value="{today}"' in client.get(f"/calls?since={today}").text


def test_an_open_circuit_is_shown_with_its_cause(make: Callable[..., Gateway]) -> None:
    gateway = make({**SETTINGS, "circuit": {"failures": 1}})
    circuit = gateway.policies.circuits.of(CircuitKey("up", "", f"m-{EVIL}"))
    circuit.admit().failed(UpstreamFailure(f"overloaded {EVIL}"))
    text = html.unescape(signed_in(gateway).get("/").text)
    assert '<span class="badge bad">open</span>' in text
    assert f"m-{EVIL}: overloaded {EVIL}" in text


@pytest.mark.parametrize("count", [1, MOST_ROWS, MOST_ROWS + 3])
def test_names_that_a_table_has_no_room_for_are_added_up(count: int) -> None:
    rows = [CostRow((f"n{number}",), Sums(calls=1, cost_usd=float(number))) for number in range(count)]
    shown = largest(rows, "others")
    assert len(shown) == min(count, MOST_ROWS + 1)
    assert sum(row.sums.calls for row in shown) == count
    assert shown[0].group == (f"n{count - 1}",)
    assert (shown[-1].group == ("others",)) == (count > MOST_ROWS)


@pytest.mark.parametrize(
    ("api", "status", "code"), [("nothing", 400, None), ("openai.chat", 404, "model_not_found"), ("anthropic.messages", 404, None)]
)
def test_a_wrong_call_by_hand_is_answered_in_the_words_of_its_api(gateway: Gateway, api: str, status: int, code: str | None) -> None:
    body = {"model": "nobody", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    answer = signed_in(gateway).post(f"/try?api={api}", json=body)
    assert (answer.status_code, answer.json["error"].get("code")) == (status, code)
    assert (answer.json.get("type") == "error") == (api == "anthropic.messages")
