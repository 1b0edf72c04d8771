"""Conversations that were made short: sealed, opened by any worker, and words for the upstream."""

from __future__ import annotations

from compat.protocols.request import Request, Summary, Text, Turn
from compat.protocols.sealed import PREFIX, Sealed, Sealer
from compat.protocols.summaries import INTRODUCTION, recalled, sealed_summary, summary_in

SEALER, OTHER = Sealer([b"one"]), Sealer([b"two", b"one"])


def turn(position: int, block: Summary | Text | None) -> Turn:
    return Turn("user", (block,) if block is not None else (), f"input[{position}]", position)


def test_whoever_has_the_secret_opens_a_summary() -> None:
    token = sealed_summary("It went well.", SEALER)
    assert (summary_in(token, SEALER), summary_in(token, OTHER)) == ("It went well.", "It went well.")


def test_what_is_not_one_of_ours_stays_closed() -> None:
    thought = SEALER.seal(Sealed("up", "m", "openai.chat", "words"))
    tokens = ("gAAAA", "", sealed_summary("x", Sealer([b"three"])), thought, sealed_summary("x", None))
    assert [summary_in(token, SEALER) for token in tokens] == [""] * 5
    assert summary_in(sealed_summary("x", SEALER), None) == ""
    assert tokens[-1] == PREFIX


def test_a_summary_is_words_in_its_place_and_a_closed_one_is_left_out_with_a_note() -> None:
    given = Request(
        api="openai.responses",
        turns=(
            turn(0, None),
            turn(1, Summary("input[1]", sealed_summary("Done.", SEALER))),
            turn(2, Summary("input[2]", "gAAAA")),
            turn(3, Text("a", "b")),
        ),
        changes=("cleared=x",),
        has_summaries=True,
    )
    found = recalled(given, SEALER)
    assert found.turns == (turn(0, None), turn(1, Text("input[1]", INTRODUCTION + "Done.")), turn(3, Text("a", "b")))
    assert (found.changes, found.has_summaries) == (("cleared=x", "dropped=summary(1)"), False)
    assert len(given.turns) == 4
