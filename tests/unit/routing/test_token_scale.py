"""What estimates are multiplied by follows what deployments count."""

from __future__ import annotations

from compat.routing.token_scale import EVERY, FIRST, LEAST, MOST, TokenScales


def taught(*pairs: tuple[int, int]) -> float:
    scales = TokenScales()
    scales.is_due("d")
    for estimate, truth in pairs:
        scales.learn("d", estimate, truth)
    return scales.of("d")


def test_an_unknown_deployment_is_taken_at_the_estimates_word() -> None:
    assert TokenScales().of("d") == taught() == 1.0


def test_the_first_answer_decides_a_higher_one_counts_at_once_and_a_lower_one_slowly() -> None:
    assert taught((1000, 700)) == 0.7
    assert taught((1000, 700), (1000, 1300)) == 1.3
    assert 1.2 < taught((1000, 1300), (1000, 700)) < 1.3


def test_what_can_not_be_true_is_bounded_and_short_prompts_teach_nothing() -> None:
    assert taught((1000, 100_000)) == MOST
    assert taught((100_000, 300)) == LEAST
    assert taught((100, 1000), (1000, 100)) == 1.0


def test_after_the_first_answers_only_some_teach() -> None:
    scales = TokenScales()
    due = [scales.is_due("d") for _ in range(4 * EVERY)]
    assert all(due[:FIRST])
    assert sum(due) == FIRST + 4


def test_the_longest_unused_is_forgotten() -> None:
    scales = TokenScales(max_deployments=2)
    for name in ("a", "b", "a", "c"):
        scales.is_due(name)
        scales.learn(name, 1000, 2000)
    scales.learn("b", 1000, 2000)
    assert (len(scales), [scales.of(name) for name in "abc"]) == (2, [2.0, 1.0, 2.0])
