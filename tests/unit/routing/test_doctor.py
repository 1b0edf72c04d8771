"""The doctor of aliases, over catalogs and lists of its own; time stands where a test puts it."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from compat.config.catalog import Alias, Catalog, Model
from compat.routing.doctor import Diagnosis, Doctor, diagnose, lists
from compat.routing.router import Router
from compat.upstream.client import Upstream
from compat.upstream.listing import Listing
from tests.integration.services_folder import until
from tests.unit.builders import StillClock, make_gateway, make_upstream

TODAY = datetime.date(2026, 11, 23)
SINCE = datetime.date(2026, 1, 1)


def in_days(days: int) -> datetime.date:
    return TODAY + datetime.timedelta(days=days)


def catalog_of(retires: datetime.date | None = None, **models: Model) -> Catalog:
    """`old` retires some day, `new` replaces it; both are Anthropic's."""
    known = {
        "old": Model(id="old", ids={"anthropic": "old-1"}, retires=retires, replaced_by="new"),
        "new": Model(id="new", ids={"anthropic": "new-1"}),
        **models,
    }
    return Catalog(known, {"best": Alias("old", SINCE)}, {})


def seen(
    catalog: Catalog, offers: Mapping[str, Sequence[str]] | None = None, upstreams: Sequence[Upstream] | None = None, **rest: Any
) -> tuple[Diagnosis, list[tuple[str, str, str]]]:
    own = [make_upstream("anthropic", "anthropic")] if upstreams is None else upstreams
    diagnosis = diagnose(
        catalog, {upstream.name: upstream for upstream in own}, offers or {}, TODAY, **{"names": {}, "shutdowns": {}, **rest}
    )
    return diagnosis, [(finding.severity, finding.kind, finding.name) for finding in diagnosis.findings]


@pytest.mark.parametrize(
    ("days", "findings"),
    [
        (None, []),
        (61, []),
        (60, [("warning", "retires", "best")]),
        (1, [("warning", "retires", "best")]),
        (0, [("error", "retired", "best"), ("warning", "replaced", "best")]),
        (-400, [("error", "retired", "best"), ("warning", "replaced", "best")]),
    ],
)
def test_a_retirement_is_told_sixty_days_ahead_and_replaced_on_its_day(days: int | None, findings: list[Any]) -> None:
    diagnosis, found = seen(catalog_of(None if days is None else in_days(days)))
    assert found == findings
    assert diagnosis.replacements == ({"old": "new"} if days is not None and days <= 0 else {})


def test_the_words_name_the_day_and_what_comes_after() -> None:
    diagnosis, _ = seen(catalog_of(in_days(52)))
    assert diagnosis.findings[0].message == "'best': old retires on 2027-01-14, in 52 days; new replaces it."
    assert diagnosis.findings[0].fields()["day"] == "2027-01-14"
    assert "in 1 day;" in seen(catalog_of(in_days(1)))[0].findings[0].message


def test_a_model_that_no_list_has_is_replaced() -> None:
    diagnosis, found = seen(catalog_of(), {"anthropic": ["new-1", "other"]})
    assert found == [("error", "unlisted", "best"), ("warning", "replaced", "best")]
    assert diagnosis.findings[0].message == "'best': anthropic does not list old-1. [models.NAME] route gives it another one."
    assert diagnosis.replacements == {"old": "new"}


@pytest.mark.parametrize("offers", [{"anthropic": ["old-1"]}, {"anthropic": ["old-1-20260101"]}, {}])
def test_a_model_that_is_listed_or_whose_list_is_unknown_is_alive(offers: dict[str, list[str]]) -> None:
    assert seen(catalog_of(), offers) == (Diagnosis(), [])


def test_a_list_knows_better_than_the_catalogs_date() -> None:
    diagnosis, found = seen(catalog_of(in_days(-1)), {"anthropic": ["old-1", "new-1"]})
    assert (found, diagnosis.replacements) == ([("warning", "retired", "best")], {})


def test_one_upstream_that_has_it_is_enough() -> None:
    both = Model(id="old", ids={"anthropic": "old-1", "openrouter": "a/old"}, replaced_by="new")
    upstreams = [make_upstream("anthropic", "anthropic"), make_upstream("openrouter", "openrouter")]
    diagnosis, found = seen(catalog_of(old=both), {"anthropic": ["x"], "openrouter": ["a/old"]}, upstreams)
    assert (found, diagnosis.replacements) == ([("error", "unlisted", "best")], {})


def test_the_chain_is_followed_to_a_living_model() -> None:
    gone = Model(id="new", ids={"anthropic": "new-1"}, retires=in_days(-5), replaced_by="newest")
    newest = Model(id="newest", ids={"anthropic": "newest-1"})
    assert seen(catalog_of(in_days(0), new=gone, newest=newest))[0].replacements == {"old": "newest"}


@pytest.mark.parametrize("replaced_by", [None, "nobody", "old", "new"])
def test_a_chain_that_ends_nowhere_is_an_error(replaced_by: str | None) -> None:
    gone = Model(id="new", ids={"anthropic": "new-1"}, retires=in_days(-5), replaced_by=replaced_by)
    diagnosis, found = seen(catalog_of(in_days(0), new=gone))
    assert ("error", "lost", "best") in found
    assert diagnosis.replacements == {}


def test_aliases_that_no_upstream_serves_are_nobodys_business() -> None:
    assert seen(catalog_of(in_days(-1)), upstreams=[make_upstream("openai")]) == (Diagnosis(), [])
    elsewhere = make_upstream("mine", "anthropic", "http://127.0.0.1:1", models=("their-own",))
    assert seen(catalog_of(in_days(-1)), upstreams=[elsewhere]) == (Diagnosis(), [])


def test_a_route_of_ones_own_is_watched_but_never_replaced() -> None:
    catalog = catalog_of(in_days(-1))
    diagnosis, found = seen(catalog, names={"mine": catalog.models["old"], "best": catalog.models["new"]})
    assert (found, diagnosis.replacements) == ([("error", "retired", "mine")], {})


@pytest.mark.parametrize(
    ("ids", "is_listed"), [(["m-1"], True), (["m-1-20260101"], True), (["m-1-2026-01-01"], True), (["m-1-mini"], False), (["m-10"], False)]
)
def test_a_date_at_the_end_of_an_id_does_not_matter(ids: list[str], is_listed: bool) -> None:
    assert lists(ids, "m-1") is is_listed


def test_calls_go_to_the_replacement_and_everybody_is_told() -> None:
    catalog = catalog_of()
    router = Router(catalog, {"anthropic": make_upstream("anthropic", "anthropic")}, {}, None)
    told: list[tuple[str, str]] = []
    now_s = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC).timestamp()
    doctor = Doctor(catalog, router, lambda: now_s, lambda event, fields, level: told.append((event, level)))
    assert [deployment.name for deployment in router.resolve("best").deployments] == ["anthropic/old-1"]
    router.learn(router.upstreams, {"anthropic": ["new-1"]})
    doctor.examine()
    assert [deployment.name for deployment in router.resolve("best").deployments] == ["anthropic/new-1"]
    assert told == [("model.unlisted", "error"), ("model.replaced", "warning")]
    assert [row["kind"] for row in doctor.report()] == ["unlisted", "replaced"]
    router.learn(router.upstreams, {"anthropic": ["old-1", "new-1"]})
    doctor.examine()
    assert [deployment.name for deployment in router.resolve("best").deployments] == ["anthropic/old-1"]
    assert doctor.report() == []


class Days(threading.Event):
    """Time that passes at once, for so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.waits_s: list[float | None] = []
        self._looks = looks

    def wait(self, timeout: float | None = None) -> bool:
        self.waits_s.append(timeout)
        return len(self.waits_s) > self._looks


def test_it_looks_when_the_lists_are_there_and_then_daily_and_what_changes_is_told() -> None:
    catalog = catalog_of(in_days(61))
    router = Router(catalog, {"anthropic": make_upstream("anthropic", "anthropic")}, {}, None)
    told: list[str] = []
    days = Days(3)
    start_s = datetime.datetime.combine(TODAY, datetime.time(12), datetime.UTC).timestamp()
    doctor = Doctor(
        catalog,
        router,
        lambda: start_s + sum(wait_s or 0 for wait_s in days.waits_s),
        lambda event, fields, level: told.append(f"{event} {fields['message'].partition(', in ')[2]}"),
        days,
    )
    doctor.start()
    until(lambda: len(days.waits_s) == 4, "three looks are over")
    assert days.waits_s == [60.0, 86_400.0, 86_400.0, 86_400.0]
    assert told == ["model.retires 60 days; new replaces it.", "model.retires 59 days; new replaces it."]


def test_the_day_in_an_upstreams_list_goes_before_the_catalogs() -> None:
    upstreams = [make_upstream("anthropic", "anthropic"), make_upstream("spare", "anthropic")]
    days = {"anthropic": {"old-1": in_days(20), "new-1": in_days(1)}, "spare": {"old-1": in_days(30)}, "gone": {"old-1": in_days(2)}}
    for catalog in (catalog_of(), catalog_of(in_days(50)), catalog_of(in_days(-50))):
        diagnosis, found = seen(catalog, upstreams=upstreams, shutdowns=days)
        assert found == [("warning", "retires", "best")]
        assert (diagnosis.findings[0].day, diagnosis.replacements) == (in_days(20), {})


def test_a_model_whose_day_in_the_list_has_come_is_replaced() -> None:
    diagnosis, found = seen(catalog_of(), shutdowns={"anthropic": {"old-1": in_days(0)}})
    assert found == [("error", "retired", "best"), ("warning", "replaced", "best")]
    assert diagnosis.replacements == {"old": "new"}


def test_a_route_of_ones_own_to_a_model_that_the_catalog_lacks_has_the_day_of_the_list() -> None:
    own = {"mine": Model(id="their-own")}
    diagnosis, found = seen(catalog_of(), names=own, shutdowns={"anthropic": {"their-own": in_days(3)}})
    assert found == [("warning", "retires", "mine")]
    assert diagnosis.findings[0].message == f"'mine': their-own retires on {in_days(3)}, in 3 days."


def test_the_doctor_reads_the_days_that_discovery_found() -> None:
    catalog = catalog_of()
    router = Router(catalog, {"anthropic": make_upstream("anthropic", "anthropic")}, {}, None)
    listing = Listing(("old-1", "new-1"), {"old-1": in_days(5)})
    router.learn(router.upstreams, {"anthropic": listing.ids}, {"anthropic": listing})
    clock = StillClock(now_s=datetime.datetime.combine(TODAY, datetime.time(12), datetime.UTC).timestamp())
    (finding,) = Doctor(catalog, router, clock.now, lambda *_: None).examine().findings
    assert (finding.kind, finding.day) == ("retires", in_days(5))


def test_a_dead_default_of_a_kind_is_replaced_as_well() -> None:
    gone = Model(id="gpt-4o", ids={"openai": "gpt-4o"}, retires=in_days(-1), replaced_by="heir")
    models = {"gpt-4o": gone, "heir": Model(id="heir", ids={"openai": "heir-1"}), "old": Model(id="old", ids={"anthropic": "old-1"})}
    catalog = Catalog(models, {"best": Alias("old", SINCE)}, {})
    router = Router(catalog, {"openai": make_upstream("openai")}, {}, None)
    clock = StillClock(now_s=datetime.datetime.combine(TODAY, datetime.time(12), datetime.UTC).timestamp())
    assert [deployment.name for deployment in router.resolve("best").deployments] == ["openai/gpt-4o"]
    assert Doctor(catalog, router, clock.now, lambda *_: None).examine().findings == ()
    assert [deployment.name for deployment in router.resolve("best").deployments] == ["openai/heir-1"]


def test_what_was_told_is_not_told_again_until_it_changes() -> None:
    catalog = catalog_of(in_days(60))
    router = Router(catalog, {"anthropic": make_upstream("anthropic", "anthropic")}, {}, None)
    told: list[str] = []
    clock = StillClock(now_s=datetime.datetime.combine(TODAY, datetime.time(12), datetime.UTC).timestamp())
    doctor = Doctor(catalog, router, clock.now, lambda event, fields, level: told.append(event))
    doctor.examine()
    doctor.examine()
    assert told == ["model.retires"]
    clock.now_s += 86_400
    doctor.examine()
    assert told == ["model.retires"] * 2


def test_of_several_workers_the_one_that_may_tells() -> None:
    catalog = catalog_of(in_days(60))
    router = Router(catalog, {"anthropic": make_upstream("anthropic", "anthropic")}, {}, None)
    told: list[str] = []
    clock = StillClock(now_s=datetime.datetime.combine(TODAY, datetime.time(12), datetime.UTC).timestamp())
    doctor = Doctor(catalog, router, clock.now, lambda event, fields, level: told.append(event))
    turns = iter([False, True, True])
    doctor.may_tell = lambda: next(turns)
    doctor.examine()
    assert (told, [row["kind"] for row in doctor.report()]) == ([], ["retires"])
    doctor.examine()  # the other one is gone: what it may not have got to tell is told
    doctor.examine()
    assert told == ["model.retires"]


def test_routes_that_lead_nowhere_do_not_disturb(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, {"models": {"lost": {"route": ["gone/x"]}, "facts only": {"facts": {"context": 5}}}})
    assert gateway.doctor.examine() == Diagnosis()
