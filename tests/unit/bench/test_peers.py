"""The arithmetic of the peers' benchmark: figures, budgets, tables; and what each peer is configured with."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.guard import KILO, STREAM, TRANSLATED, TRANSLATED_STREAM, WHOLE, Costs, too_high
from bench.peers.__main__ import selected
from bench.peers.budgets import BUDGETS, RIVALS, Bound, Budget, judge
from bench.peers.certificates import make_certificates
from bench.peers.figures import Figures, Loaded, Process, figures_of
from bench.peers.measure import Plan, warming
from bench.peers.plot import picture
from bench.peers.tables import budget_table, scenario_tables
from bench.peers.target import Place
from bench.peers.targets import TARGETS
from bench.processes import Running
from bench.scenarios import PEER_SCENARIOS, scenario_named


def loaded(scenario: str, target: str, cpu_s: float, *, requests: int = 100, failures: int = 0, median_ms: float = 1.0) -> Loaded:
    spread = {"median": median_ms, "p90": 2.0, "p99": 3.0, "max": 4.0}
    load: dict[str, Any] = {"requests": requests, "failures": failures, "wall_s": 2.0, "latency_ms": spread, "first_byte_ms": spread}
    return Loaded(scenario, target, 0, load | {"late_ms": None}, cpu_s)


def test_cpu_is_the_median_of_the_rounds_by_request():
    loads = [loaded("whole, 32 at once", "ours", cpu_s) for cpu_s in (0.01, 0.02, 0.9)]
    figures = figures_of(loads)["whole, 32 at once", "ours"]
    assert figures.cpu_us_request == pytest.approx(200)
    assert figures.per_s == 50
    assert figures.cpu_us_chunk is None


def test_a_chunk_costs_what_the_stream_costs_besides_a_whole_answer():
    loads = [loaded("whole, 32 at once", "ours", 0.01), loaded("stream, 8 at once", "ours", 0.05)]
    assert figures_of(loads)["stream, 8 at once", "ours"].cpu_us_chunk == pytest.approx((500 - 100) / 200)
    assert figures_of(loads[1:])["stream, 8 at once", "ours"].cpu_us_chunk is None


def test_a_chunk_of_a_kilo_call_costs_its_share_of_everything():
    assert figures_of([loaded("Kilo call", "ours", 0.6)])["Kilo call", "ours"].cpu_us_chunk == pytest.approx(6000 / 300)


def test_large_answers_and_requests_cost_by_the_megabyte():
    loads = [loaded("10 MB answer", "ours", 2.0), loaded("5 MB request", "ours", 2.0)]
    assert [row.cpu_ms_mb for row in figures_of(loads).values()] == [pytest.approx(2.0), pytest.approx(4.0)]


def test_a_load_with_a_wrong_answer_is_counted_and_goes_into_no_figure():
    loads = [loaded("whole, 32 at once", "ours", 0.02), loaded("whole, 32 at once", "ours", 0.001, failures=3)]
    figures = figures_of(loads)["whole, 32 at once", "ours"]
    assert (figures.wrong, figures.cpu_us_request) == (3, pytest.approx(200))
    assert figures_of(loads[1:])["whole, 32 at once", "ours"] == Figures(wrong=3)


def test_a_direct_call_has_times_and_no_cost():
    figures = figures_of([loaded("whole, 32 at once", "direct", 0.02)])["whole, 32 at once", "direct"]
    assert (figures.cpu_us_request, figures.p50_ms) == (None, 1.0)


def test_budgets_are_judged_against_the_other_targets_of_the_run():
    table = {
        ("stream, 8 at once", "ours"): Figures(cpu_us_chunk=10),
        ("stream, 8 at once", "nginx"): Figures(cpu_us_chunk=2),
        ("stream, 8 at once", "rolter"): Figures(cpu_us_chunk=20),
        ("stream, 8 at once", "ferrogw"): Figures(cpu_us_chunk=9),
        ("stream, 8 at once", "litellm"): Figures(wrong=1),
    }
    process = Process("1", start_s=0.5, idle_mb=81, peak_mb=90)
    judged = judge(table, {"ours": process}, ["ours", "gunicorn"], ["rolter", "ferrogw", "litellm"])
    assert [(one.bound.words, one.limit, one.verdict) for one in judged] == [
        ("4.5x nginx", 9, "missed"),
        (RIVALS, 9, "missed"),
        ("80", 80, "missed"),
        ("2", 2, "met"),
    ]


def test_a_bound_by_a_target_that_was_not_measured_is_unknown():
    judged = judge({("200 kB request", "ours"): Figures(cpu_us_request=1)}, {}, ["ours"], [])
    assert [one.verdict for one in judged] == ["unknown"]
    assert "not measured" in budget_table(judged)


def test_an_addition_is_to_the_others_figure():
    table = {("whole, one at a time", "ours"): Figures(p50_ms=1.2, p90_ms=1.3), ("whole, one at a time", "direct"): Figures(p50_ms=0.25)}
    (first, second) = judge(table, {}, ["ours"], [])
    assert (first.bound.words, first.limit, first.verdict) == ("direct + 1", 1.25, "met")
    assert second.verdict == "unknown"


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (Bound(18, "nginx"), "18x nginx"),
        (Bound(0.35, "rolter"), "0.35x rolter"),
        (Bound(1 / 50, "litellm"), "1/50 of litellm"),
        (Bound(1 / 6, "portkey"), "1/6 of portkey"),
        (Bound(plus=80), "80"),
    ],
)
def test_bounds_are_told_in_words(bound: Bound, words: str):
    assert bound.words == words


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: f"{budget.scenario} {budget.figure}")
def test_each_budget_is_about_a_scenario_a_figure_and_targets_that_there_are(budget: Budget):
    names = {"direct", RIVALS, "", *(target.name for target in TARGETS)}
    kind = Figures if budget.scenario else Process
    assert budget.figure in kind.__dataclass_fields__
    assert not budget.scenario or scenario_named(budget.scenario) in PEER_SCENARIOS
    assert {bound.of for bound in budget.bounds} <= names


def test_a_table_has_the_ratios_to_nginx_and_rolter_and_no_empty_columns():
    loads = [loaded("whole, 32 at once", name, cpu_s) for name, cpu_s in (("nginx", 0.003), ("ours", 0.03), ("rolter", 0.06))]
    text = scenario_tables(figures_of(loads), ["direct", "nginx", "ours", "rolter"])
    head, _, nginx, ours, rolter = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert head[:4] == ["whole, 32 at once", "CPU us/request", "x nginx", "x rolter"]
    assert (nginx[:4], ours[:4], rolter[:4]) == (
        ["nginx", "30", "-", "0.05x"],
        ["ours", "300", "10.0x", "0.50x"],
        ["rolter", "600", "20.0x", "-"],
    )
    assert "CPU us/chunk" not in text


def test_the_picture_is_a_png_and_there_is_none_of_nothing():
    loads = [loaded("Kilo call", name, cpu_s) for name, cpu_s in (("nginx", 0.003), ("ours", 0.03))]
    image = picture(figures_of(loads), ["nginx", "ours"])
    assert image is not None
    assert image.startswith(b"\x89PNG")
    assert picture({}, ["nginx"]) is None


def test_slow_scenarios_have_all_their_requests_and_rounds_of_their_own():
    plan = Plan(rounds=3, slow_rounds=2, share=0.5)
    assert (plan.rounds_of(scenario_named("Kilo call")), plan.requests_of(scenario_named("Kilo call"), 0.1)) == (2, 50)
    assert (plan.rounds_of(scenario_named("first token, 100 streams")), plan.rounds_of(scenario_named("1 MB event"))) == (2, 3)
    assert plan.requests_of(scenario_named("stream, 8 at once"), 0.1) == 20


def test_what_is_measured_is_warmed_up_once_whole_and_once_streamed():
    rows = warming(PEER_SCENARIOS)
    assert len({(row.route, row.chunks > 0) for row in rows}) == len(rows) == 6
    assert not any(row.is_slow for row in rows)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_each_target_is_configured_for_every_public_name(target, tmp_path: Path):
    mock = Running(1, 4001, 0.0, 4002)
    place = Place(tmp_path, tmp_path / "installed", 4000, mock, tmp_path / "ca.pem")
    files = target.files(place)
    text = "".join([*files.values(), *(path.read_text() for path in tmp_path.iterdir())])
    for name, content in files.items():
        {"json": json.loads, "toml": tomllib.loads, "yaml": json.loads, "conf": str}[name.rpartition(".")[2]](content)
    served = [row for row in PEER_SCENARIOS if target.can_serve(row)]
    if target.name not in {"nginx", "portkey", "smg"}:
        assert all(f'"{row.route}"' in text for row in served)
    assert "4000" in text + " ".join(target.command(place)) + str(target.variables(place))
    assert all(target.headers(place, row)["authorization"].startswith("Bearer ") for row in served)


def test_the_certificate_is_signed_by_the_authority_of_the_run(tmp_path: Path):
    made = make_certificates(tmp_path)
    if made is None:
        pytest.skip("there is no openssl")
    assert all("BEGIN" in path.read_text() for path in (made.authority, made.certificate, made.key))


def costs(*, ours_whole: float = 600, ours_chunk: float = 5) -> Costs:
    reference = {WHOLE: 100.0, STREAM: 100 + 200 * 5.0, KILO: 5000.0}
    return Costs(
        ours={
            WHOLE: ours_whole,
            STREAM: ours_whole + 200 * ours_chunk,
            TRANSLATED: 700,
            TRANSLATED_STREAM: 700 + 200 * 2.5,
            KILO: 10_000,
        },
        reference=reference,
    )


def test_the_guards_ratios_are_to_the_reference_in_the_same_minutes():
    assert costs().ratios() == {"a whole call": 6, "a streamed chunk": 1, "a translated chunk": 0.5, "a Kilo-shaped call": 2}


@pytest.mark.parametrize(
    ("whole", "chunk", "high"), [(600, 5, []), (800, 5, []), (820, 5, ["a whole call"]), (600, 7, ["a streamed chunk"])]
)
def test_the_guard_finds_a_growth_of_more_than_35_per_cent(whole: float, chunk: float, high: list[str]):
    recorded = costs().ratios()
    assert list(too_high(costs(ours_whole=whole, ours_chunk=chunk).ratios(), recorded)) == high


def test_a_scenario_behind_tls_has_a_name_of_its_own():
    row = scenario_named("Kilo call")
    assert replace(row, is_tls=True).route != row.route


def test_scenarios_are_chosen_by_words_with_semicolons_between_for_names_have_commas():
    assert [row.name for row in selected("stream, 8; 200 kB")] == ["whole, 32 at once", "stream, 8 at once", "200 kB request"]
    assert selected("") == list(PEER_SCENARIOS)
