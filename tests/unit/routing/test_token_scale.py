"""What estimates are multiplied by follows what deployments count."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_what_was_learnt_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "data" / "scales.json"
    first = TokenScales(path=path)
    first.is_due("d")
    first.is_due("never taught")
    first.save()
    assert not path.exists()
    first.learn("d", 1000, 1300)
    first.save()
    later = TokenScales(path=path)
    assert (later.of("d"), later.of("never taught"), len(later)) == (1.3, 1.0, 1)
    later.is_due("d")
    later.learn("d", 1000, 700)
    assert 1.2 < later.of("d") < 1.3  # a lower count does not begin anew


@pytest.mark.parametrize("text", [b"", b"[]", b'{"d":"x"}', b'{"d":1e999}', b"\xff"])
def test_a_broken_file_is_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "scales.json"
    path.write_bytes(text)
    scales = TokenScales(path=path)
    assert scales.of("d") in (1.0, MOST)
    scales.is_due("d")
    scales.learn("d", 1000, 4000)
    scales.save()
    assert TokenScales(path=path).of("d") == MOST


def test_a_file_that_is_too_long_or_can_not_be_written_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "scales.json"
    path.write_text('{"a": 1.1, "b": 1.2, "c": 100}')
    scales = TokenScales(2, path)
    assert [scales.of(name) for name in "abc"] == [1.0, 1.2, MOST]
    (tmp_path / "file").write_text("")
    blocked = TokenScales(path=tmp_path / "file" / "scales.json")
    blocked.is_due("d")
    blocked.learn("d", 1000, 1300)
    blocked.save()
    assert blocked.of("d") == 1.3
