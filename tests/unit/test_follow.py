"""The gateway follows its files: what takes effect, what goes on, what is refused."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import gevent
import pytest
from werkzeug.test import Client

from compat.accounting.keys import new_key
from compat.accounting.limits import Estimate
from compat.banner import banner
from compat.calls.gateway import Gateway
from compat.config.settings import COMMAND, SettingsError
from compat.endpoints.health import health_report
from compat.errors import UpstreamBroken
from compat.factory import build_gateway, change_background, create_app
from compat.follow import Live, Place
from compat.routing.circuit import CircuitKey
from compat.routing.own_address import OwnAddress
from compat.service.configuration import find_sources, settings_of
from compat.upstream.listing import Listing
from tests.unit.builders import NoTransport, StillClock, make_gateway

QUIET = "discovery.enabled = false\nembedded.enabled = false\nlog.terminal = false\n"
UP = '[upstreams.up]\nkind = "openai"\nbase_url = "http://up.example/v1"\n[models.m]\nroute = ["up/x"]\n'
DIGEST = "sha256:" + "ab" * 32


class Followed:
    """A gateway over the files of a folder. Mutable: as the files are written, and the gateway follows."""

    def __init__(self, folder: Path, text: str = QUIET + UP, **more: Any) -> None:
        self.path = folder / "config.toml"
        self.path.write_text(text)
        self._count = 0
        sources = find_sources(folder)
        settings = settings_of(sources, folder, more.get("overrides", {}), command=more.pop("command", COMMAND))
        self.first = build_gateway(settings, sources.environment, folder, clock=StillClock(), transport=NoTransport())
        admit = more.pop("admit", lambda _gateway: None)
        self.live = Live(self.first, Place(folder, **more))
        self.follower = self.live.follow(admit)

    def write(self, text: str, path: Path | None = None) -> None:
        """Write a file, with a stamp of its own however coarse the file system's clock is."""
        path = path or self.path
        path.write_text(text)
        self._count += 1
        os.utime(path, ns=(self._count, self._count))

    def settle(self) -> Gateway:
        """Two looks: the second one finds the file as it was."""
        self.follower.look()
        self.follower.look()
        return self.live.gateway

    def change(self, text: str) -> Gateway:
        self.write(text)
        return self.settle()

    @property
    def fault(self) -> str:
        return self.live.gateway.following.fault

    def events(self) -> list[tuple[str, Any]]:
        return [(name, fields) for _, _, name, fields in self.live.gateway.log._queue if name.startswith("configuration.")]


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


def test_a_changed_file_takes_effect_and_is_reported(followed: Followed) -> None:
    gateway = followed.change(QUIET + UP + 'facts = {context = 7}\n[models.n]\nroute = ["up/y"]\n')
    assert gateway.router.resolve("n").deployments[0].name == "up/y"
    assert gateway.catalog.models["m"].context == 7
    fields = {"source": str(followed.path), "changed": ["models"], "postponed": []}
    assert followed.events() == [("configuration.changed", fields)]
    report = {"source": str(followed.path), "changes": 1, "changed_s_ago": 0.0, "fault": "", "postponed": []}
    assert health_report(gateway)["configuration"] == report
    names = [row["id"] for row in Client(followed.live).get("/v1/models").json["data"]]
    assert "n" in names


def test_a_file_that_was_only_touched_changes_nothing(followed: Followed) -> None:
    assert followed.change(followed.path.read_text() + "# a comment\n") is followed.first
    assert followed.events() == []


def test_a_file_that_is_being_written_is_not_read(followed: Followed) -> None:
    """Editors empty a file before they fill it: an empty one is a valid configuration, without a key."""
    followed.write("")
    followed.follower.look()
    followed.write(QUIET + UP.replace("up/x", "up/z"))
    followed.follower.look()
    assert followed.live.gateway is followed.first
    followed.follower.look()
    assert followed.live.gateway.router.resolve("m").deployments[0].name == "up/z"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (QUIET + "[models\n", ": is not valid TOML"),
        (QUIET + "[server]\nheartbeet_s = 1\n", ": unknown key 'server.heartbeet_s'; did you mean 'heartbeat_s'?"),
        (QUIET + "[retry]\nattempts = 'x'\n", ": key 'retry.attempts': Expected `int`, got `str`."),
        (QUIET + '[upstreams.up]\nkind = "nobody"\n', ": key 'upstreams.up.kind': 'nobody' is not one of "),
        (QUIET + '[models.m]\nfacts = {context = "x"}\n', ": key 'models.m.facts.context': Expected `int`, got `str`."),
        (QUIET + '[limits]\nclient = "many"\n', "limits.client"),
    ],
)
def test_a_wrong_file_is_refused_and_what_runs_goes_on(followed: Followed, text: str, words: str) -> None:
    assert followed.change(text) is followed.first
    assert words in followed.fault
    followed.settle()
    assert followed.events() == [("configuration.failed", {"fault": followed.fault})], "said once"
    report = health_report(followed.first)
    assert (report["status"], report["causes"]) == ("degraded", [f"configuration: {followed.fault}"])
    gateway = followed.change(QUIET + UP.replace("up/x", "up/z"))
    assert (followed.fault, gateway.following.changes) == ("", 1)


def test_a_fault_is_gone_when_the_file_is_as_it_was(followed: Followed) -> None:
    text = followed.path.read_text()
    followed.change("[")
    assert followed.fault
    assert followed.change(text) is followed.first
    assert not followed.fault


def test_a_file_that_is_gone_is_no_empty_one(followed: Followed) -> None:
    text = followed.path.read_text()
    followed.path.unlink()
    assert followed.settle() is followed.first
    assert followed.fault == f"{followed.path}: is gone; what it said counts until the next start."
    followed.settle()
    assert len(followed.events()) == 1
    assert followed.change(text) is followed.first
    assert not followed.fault


def test_a_file_behind_a_link_is_followed_to_another_one(followed: Followed) -> None:
    """As Kubernetes changes a ConfigMap: a link that leads to a new folder."""
    for name, text in (("old", followed.path.read_text()), ("new", QUIET + UP.replace("up/x", "up/z"))):
        (followed.path.parent / name).mkdir()
        followed.write(text, followed.path.parent / name / "config.toml")
    current = followed.path.parent / "..data"
    current.symlink_to("old")
    followed.path.unlink()
    followed.path.symlink_to("..data/config.toml")
    assert followed.settle().router.resolve("m").deployments[0].name == "up/x"
    (followed.path.parent / "next").symlink_to("new")
    (followed.path.parent / "next").replace(current)
    assert followed.settle().router.resolve("m").deployments[0].name == "up/z"


def test_a_file_that_is_new_counts(tmp_path: Path) -> None:
    followed = Followed(tmp_path, QUIET)
    followed.write("OPENAI_API_KEY=sk-1\n", tmp_path / ".env")
    gateway = followed.settle()
    assert list(gateway.router.upstreams) == ["openai"]
    assert followed.events()[0][1]["changed"] == ["environment"]
    followed.write("MISTRAL_API_KEY=sk-2\n", tmp_path / ".env")
    assert list(followed.settle().router.upstreams) == ["mistral"]


def test_a_misspelt_variable_is_reported_when_it_is_written(tmp_path: Path) -> None:
    followed = Followed(tmp_path, QUIET)
    followed.write("ANTROPIC_API_KEY=sk-canary\n", tmp_path / ".env")
    followed.settle()
    followed.change(QUIET + UP)
    warned = [
        fields["detail"] for level, _, name, fields in followed.live.gateway.log._queue if (level, name) == ("warning", "env.ignored")
    ]
    assert warned == [f"{tmp_path / '.env'}: ANTROPIC_API_KEY has no effect; did you mean ANTHROPIC_API_KEY?"]


def test_the_embedded_engine_goes_on_until_its_own_settings_change(tmp_path: Path) -> None:
    text = QUIET.replace("embedded.enabled = false", 'embedded.model = "small"') + UP
    followed = Followed(tmp_path, text)
    engine = followed.first.engine
    assert engine is not None
    assert followed.change(text.replace("up/x", "up/z")).engine is engine
    changed = followed.change(text.replace('"small"', '"small"\nembedded.context_tokens = 4096'))
    assert changed.engine not in {None, engine}


def test_with_its_first_upstream_a_gateway_needs_the_engine_that_runs_no_more(tmp_path: Path) -> None:
    text = QUIET.replace("embedded.enabled = false", 'embedded.model = "small"')
    followed = Followed(tmp_path, text)
    gateway = followed.change(text + UP)
    assert gateway.engine not in {None, followed.first.engine}
    assert followed.change(text + UP.replace("up/x", "up/z")).engine is gateway.engine


LASTING = (
    *("clock", "log", "transport", "vault", "usage", "metrics", "traces", "started_s", "gauges", "following", "scales", "refusals"),
    *("cache_watch", "offload", "feed", "responses"),
)
OTHERS = {
    "keys": "keys",
    "secrets": "sealing",
    "sealer": "sealing",
    "answers": "cache",
    "flights": "single_flight",
    "gathering": "server",
    "engine": "embedded",
    "policies.circuits": "circuit",
    "policies.retries": "retry",
    "policies.affinity": "affinity",
    "policies.gates": "concurrency",
    "policies.pacing": "pacing",
    "commons": "circuit",
    "limits": "limits",
}


REMADE = {"settings", "catalog", "router", "discovery", "doctor", "search"}
"""Those that keep nothing of their own, or are given what the one before had."""


def test_of_every_collaborator_it_is_decided_whether_it_goes_on() -> None:
    assert {field.name for field in dataclasses.fields(Gateway)} == {*LASTING, *(name.partition(".")[0] for name in OTHERS), *REMADE}


@pytest.mark.parametrize(
    ("lines", "section"),
    [
        ('[models.n]\nroute = ["up/y"]', "models"),
        (f'[keys.ada]\nhash = "{DIGEST}"', "keys"),
        ('[sealing]\nsecrets = ["0123456789abcdef"]', "sealing"),
        ("[cache]\nttl_s = 5", "cache"),
        ("[single_flight]\nenabled = false", "single_flight"),
        ("[server]\ngather_ms = 3", "server"),
        ("[circuit]\nfailures = 3", "circuit"),
        ("[retry]\nattempts = 1", "retry"),
        ("[affinity]\nttl_s = 9", "affinity"),
        ("[concurrency]\nmax_limit = 9", "concurrency"),
        ("[pacing]\nenabled = false", "pacing"),
        ('[limits]\nclient = "9/minute"', "limits"),
    ],
)
def test_a_collaborator_goes_on_while_its_own_settings_are_the_same(followed: Followed, lines: str, section: str) -> None:
    gateway = followed.change(f"{QUIET}{UP}{lines}\n")
    assert gateway is not followed.first

    def part(of: Gateway, name: str) -> object:
        for step in name.split("."):
            of = getattr(of, step)
        return of

    assert [name for name in LASTING if part(gateway, name) is not part(followed.first, name)] == []
    replaced = {name for name, own in OTHERS.items() if part(gateway, name) is not part(followed.first, name)}
    expected = {name for name, own in OTHERS.items() if own == section and part(followed.first, name) is not None}
    expected |= {"limits"} if section == "keys" else set()  # they ask the keys
    assert replaced == expected


def test_limits_count_on_with_new_numbers(followed: Followed, tmp_path: Path) -> None:
    first = followed.change(f'{QUIET}{UP}[limits]\nmodel = "9/minute"\nclient = "9/minute"\n')
    under_way = first.limits.admit("ada", "m", Estimate())
    second = followed.change(f'{QUIET}{UP}[limits]\nmodel = "9/minute"\nclient = "5/minute"\n')
    left = dict(second.limits.headers("nobody", "m"))
    assert left["x-ratelimit-remaining-requests"] == "5"
    second.limits.admit("nobody", "m", Estimate())
    assert dict(second.limits.headers("eve", "m"))["x-ratelimit-remaining-requests"] == "5"

    def left_to_the_model() -> int:
        return next(hold.left for hold in second.limits.admit("eve", "m", Estimate()).holds if hold.rule.scope == "model")

    assert left_to_the_model() == 6
    under_way.cancel()
    gevent.sleep(0)
    assert left_to_the_model() == 6, "what a call had taken that began before is given back"


def test_an_upstream_that_is_another_one_begins_anew_and_the_others_go_on(tmp_path: Path) -> None:
    other = UP.replace("[models.m]\n", '[upstreams.other]\nkind = "openai"\nbase_url = "http://other.example/v1"\n[models.m]\n')
    followed = Followed(tmp_path, QUIET + other)
    circuits = followed.first.policies.circuits
    for name in ("up", "other"):
        for _ in range(10):
            circuits.of(CircuitKey(name, "", "x")).admit().failed(UpstreamBroken("no"))
            if circuits.of(CircuitKey(name, "", "x")).state == "open":
                break
        followed.first.refusals.learn(f"{name}/x", "top_p")
    gateway = followed.change(QUIET + other.replace("up.example", "new.example"))
    assert [row["upstream"] for row in gateway.policies.circuits.report()] == ["other"]
    assert (gateway.refusals.of("up/x"), gateway.refusals.of("other/x")) == (frozenset(), {"top_p"})
    gateway = followed.change(QUIET + UP)
    assert gateway.policies.circuits.report() == []


def test_what_can_not_change_live_waits_and_is_reported(tmp_path: Path) -> None:
    followed = Followed(tmp_path, overrides={"server": {"port": 1}})
    lines = '[server]\nport = 2\nhost = "localhost"\nworkers = 7\nheartbeat_s = 3\n[usage]\nenabled = false\n'
    gateway = followed.change(QUIET + UP + lines)
    server = gateway.settings.server
    assert (server.port, server.host, server.workers, server.heartbeat_s) == (1, "127.0.0.1", 2, 3)
    assert gateway.settings.usage.enabled
    assert gateway.settings.postponed == ("server.host", "server.workers", "usage")
    assert followed.events()[0][1] == {
        "source": str(followed.path),
        "changed": ["server"],
        "postponed": ["server.host", "server.workers", "usage"],
    }
    assert health_report(gateway)["configuration"]["postponed"] == ["server.host", "server.workers", "usage"]


def test_promise_01_holds_for_a_configuration_that_changes_while_the_gateway_runs(tmp_path: Path) -> None:
    """Not the one that the file names now: the socket is as it was."""
    keys = f'[keys.ada]\nhash = "{DIGEST}"\n'
    followed = Followed(tmp_path, f'{QUIET}{UP}{keys}[server]\nhost = "0.0.0.0"\n')
    assert followed.change(f'{QUIET}{UP}[server]\nhost = "127.0.0.1"\n') is followed.first
    assert "0.0.0.0 can be reached from other machines" in followed.fault


def test_an_upstream_that_is_the_gateway_itself_is_refused(tmp_path: Path) -> None:
    followed = Followed(tmp_path, admit=OwnAddress([("127.0.0.1", 4711)]).keep_from)
    assert followed.change(QUIET + UP.replace("http://up.example/", "http://127.0.0.1:4711/")) is followed.first
    assert "up" in followed.fault


def test_a_gateway_that_may_not_serve_here_is_never_served(tmp_path: Path) -> None:
    def refuse(_gateway: Gateway) -> None:
        raise SettingsError("not here")

    followed = Followed(tmp_path, admit=refuse)
    assert followed.change(QUIET + UP.replace("up/x", "up/z")) is followed.first
    assert followed.fault == "not here"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("config.toml", QUIET + UP.replace("upstreams.up", "upstreams.next").replace("up/x", "next/x"), ["next"]),
        (".env", "OPENAI_API_KEY=sk-canary-0123456789\n", ["up", "openai"]),
    ],
)
def test_what_changes_while_the_gateway_is_made_takes_effect(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    (tmp_path / "config.toml").write_text(QUIET + UP)
    place = Place(tmp_path, outer={})
    sources = place.sources()
    gateway = build_gateway(settings_of(sources, tmp_path, {}), {}, tmp_path, clock=StillClock(), transport=NoTransport())
    (tmp_path / name).write_text(text)
    live = Live(gateway, place)
    follower = live.follow(lambda _gateway: None)
    for _ in range(2):
        follower.look()
    assert list(live.gateway.router.upstreams) == expected


def test_copies_hold_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is started again reads them, whatever has become of the files."""
    copies = (tmp_path / "copies" / "config.toml", tmp_path / "copies" / "env")
    copies[0].parent.mkdir()
    original = QUIET + UP
    for copy, text in zip(copies, (original, ""), strict=True):
        copy.write_text(text)
    outer = dict(os.environ)
    monkeypatch.setenv("OPENAI_COMPAT_CONFIG", str(copies[0]))
    monkeypatch.setenv("OPENAI_COMPAT_ENV_FILE", str(copies[1]))
    followed = Followed(tmp_path, original, outer=outer, copies=copies)
    changed = QUIET + UP.replace("up/x", "up/z")
    assert followed.change(changed).router.resolve("m").deployments[0].name == "up/z"
    assert copies[0].read_text() == changed
    followed.change("[")
    assert copies[0].read_text() == changed
    assert followed.fault.startswith(str(followed.path)), "the file that a person wrote"


def test_discovery_goes_on_with_the_lists_it_has(followed: Followed) -> None:
    followed.first.discovery._list_models = lambda _upstream, _timeout_s: Listing(("x", "listed"))
    followed.first.discovery.refresh_configured()
    gateway = followed.change(QUIET + UP + "facts = {context = 7}\n")
    assert gateway.router.offers == {"up": ("x", "listed")}
    assert gateway.discovery.states["up"].state == "ok"
    gateway = followed.change(QUIET + UP.replace("up.example", "new.example"))
    assert (gateway.router.offers, gateway.discovery.states["up"].state) == ({}, "unknown")


class FakeEngine:
    """What was done with it. Mutable: that."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")


def test_an_engine_with_other_settings_takes_over_after_the_last_answer_of_the_one_before(tmp_path: Path) -> None:
    old: Any = FakeEngine()
    new: Any = FakeEngine()
    before = dataclasses.replace(make_gateway(tmp_path), engine=old)
    after = dataclasses.replace(make_gateway(tmp_path), engine=new, gauges=before.gauges, clock=before.clock)
    before.gauges.serving.add("a call")
    change_background(before, after)
    gevent.sleep(0)
    assert (new.calls, old.calls) == (["start"], [])
    before.gauges.serving.clear()
    with gevent.Timeout(10):
        while not old.calls:
            gevent.sleep(0.01)
    assert old.calls == ["stop"]


def test_an_installed_program_keeps_its_name(tmp_path: Path) -> None:
    followed = Followed(tmp_path, command="openai-compat")
    assert followed.change(QUIET).settings.command == "openai-compat"
    followed.change(QUIET + 'server.allowed_hosts = ["gateway.example"]\n')
    assert "Make one with 'openai-compat keys add NAME'" in followed.fault
    assert banner(followed.live.gateway, 1).count("openai-compat setup kilo") == 1
    front, answers = create_app(followed.live.gateway), []
    for forwarded in ({"REMOTE_ADDR": "10.0.0.1"}, {"HTTP_X_FORWARDED_FOR": "10.0.0.1"}):
        answers += front({"PATH_INFO": "/", "HTTP_HOST": "localhost", **forwarded}, lambda *_: None)
    assert [b": openai-compat keys add NAME." in answer for answer in answers] == [True, True]


@pytest.mark.parametrize("command", ["openai-compat", COMMAND])
def test_the_pages_name_the_program_as_it_was_called(tmp_path: Path, command: str) -> None:
    key, digest = new_key()
    text = QUIET + UP + f'[keys.ada]\nhash = "{digest}"\nconsole = true\n'
    client = Client(create_app(Followed(tmp_path, text, command=command).live.gateway))
    pages = [client.get("/").text, *(client.get(path, headers={"x-api-key": key}).text for path in ("/setup", "/keys"))]
    assert [f"{command} {words}" in page for words, page in zip(("keys add", "setup kilo", "keys revoke"), pages, strict=True)] == [
        True
    ] * 3
    assert ["python app.py" in page for page in pages] == [command == COMMAND] * 3
