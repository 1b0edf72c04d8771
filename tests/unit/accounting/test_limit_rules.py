"""Limit strings and the windows they count in."""

from __future__ import annotations

import datetime

import pytest

from compat.accounting.limit_rules import Rule, budget_rules, parse_rules
from compat.config.sections import BudgetSettings
from compat.config.settings import SettingsError


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()


def rule(text: str) -> Rule:
    (only,) = parse_rules(text, "client", "limits.client")
    return only


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("", []),
        (" ; ", []),
        ("60/minute", [("requests", 60, "60 requests per minute")]),
        ("60 requests/minute", [("requests", 60, "60 requests per minute")]),
        ("1 request per second", [("requests", 1, "1 requests per second")]),
        ("60/minute; 1000/hour", [("requests", 60, "60 requests per minute"), ("requests", 1000, "1000 requests per hour")]),
        ("2/day, 3 per 2 hours | 4/month", [("requests", 2, None), ("requests", 3, "3 requests per 2 hours"), ("requests", 4, None)]),
        ("1000000 tokens/minute", [("tokens", 1_000_000, "1000000 tokens per minute")]),
        ("1 TOKEN / 5 Minutes", [("tokens", 1, "1 tokens per 5 minutes")]),
        ("5 usd/day", [("usd", 5_000_000, "5 USD per day")]),
        ("0.29 USD per hour", [("usd", 290_000, "0.29 USD per hour")]),
        ("0.000001usd/year", [("usd", 1, None)]),
    ],
)
def test_a_limit_string_is_amount_unit_and_period(text: str, rules: list[tuple[str, int, str | None]]) -> None:
    found = parse_rules(text, "client", "limits.client")
    assert [(one.measure, one.amount) for one in found] == [(measure, amount) for measure, amount, _ in rules]
    for one, (_, amount, words) in zip(found, rules, strict=True):
        assert one.item.amount == amount
        assert words is None or str(one) == words


@pytest.mark.parametrize(
    "text",
    [
        *("many", "60", "60/", "/minute", "60/fortnight", "0/minute", "0 usd/day", "-1/minute", "1.5/minute", "1.5 tokens/day"),
        *("0.0000001 usd/day", "5 eur/day", "5 usds/day", "60/minute 10/hour", "60/minute; x", "1e3/minute"),
        *("60/0 minutes", "60 per 00 hours", "5 usd/1001 years", "60/99999999999999999999 seconds"),
    ],
)
def test_what_is_not_a_limit_is_refused_with_the_name_of_the_key(text: str) -> None:
    with pytest.raises(SettingsError, match=r"key 'limits\.models\.gpt-x'.*is not a limit: write limits like"):
        parse_rules(text, "model", "limits.models.gpt-x")


@pytest.mark.parametrize(
    ("text", "now", "begin", "end"),
    [
        ("1/second", "2026-03-01T10:20:30.7", "2026-03-01T10:20:30", "2026-03-01T10:20:31"),
        ("1/minute", "2026-03-01T10:20:30.7", "2026-03-01T10:20:00", "2026-03-01T10:21:00"),
        ("1/minute", "2026-03-01T10:20:00", "2026-03-01T10:20:00", "2026-03-01T10:21:00"),
        ("1/2 hours", "2026-03-01T11:20:00", "2026-03-01T10:00:00", "2026-03-01T12:00:00"),
        ("1/day", "2026-03-01T10:20:30", "2026-03-01T00:00:00", "2026-03-02T00:00:00"),
        ("1/month", "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("1/month", "2028-02-29T12:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        ("1/year", "2028-02-29T12:00:00", "2028-01-01T00:00:00", "2029-01-01T00:00:00"),
    ],
)
def test_a_window_begins_where_the_clock_says(text: str, now: str, begin: str, end: str) -> None:
    assert rule(text).window(at(now)) == (at(begin), at(end))


def test_several_months_are_thirty_days_each() -> None:
    begin_s, end_s = rule("1/2 months").window(at("2026-03-01T00:00:00"))
    assert end_s - begin_s == 60 * 86_400


def test_a_budget_is_two_rules_and_nothing_where_it_is_zero() -> None:
    assert [str(one) for one in budget_rules(BudgetSettings(day_usd=1.5, month_usd=20))] == ["20 USD per month", "1.5 USD per day"]
    assert [str(one) for one in budget_rules(BudgetSettings(month_usd=0.5))] == ["0.5 USD per month"]
    assert budget_rules(BudgetSettings()) == ()


def test_rules_of_different_scopes_and_measures_never_count_in_one_place() -> None:
    rules = [
        *parse_rules("5/day; 5 tokens/day", "client", "k"),
        *parse_rules("5/day", "model", "k"),
        *parse_rules("5 per 2 day", "model", "k"),
        *parse_rules("0.000005 usd/day", "client", "k"),
        *budget_rules(BudgetSettings(day_usd=0.000005, month_usd=0.000005)),
    ]
    assert len({one.item.key_for("name", 0) for one in rules}) == len(rules) == 7
