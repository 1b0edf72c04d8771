"""Receipts of what a translation changed."""

from __future__ import annotations

from compat.protocols.notes import Notes, header_text


def test_equal_notes_are_counted_and_stay_in_the_order_of_their_first() -> None:
    notes = Notes()
    notes.add("dropped", "temperature")
    notes.add("thinking", "restored")
    notes.add_all("dropped", ["top_p", "temperature"])
    assert notes.told() == ("dropped=temperature(2)", "thinking=restored", "dropped=top_p")


def test_a_subject_is_cut_and_cleaned() -> None:
    notes = Notes()
    notes.add("dropped", 'a\r\nb; "é"=1' + "x" * 100)
    (note,) = notes.told()
    assert note == "dropped=a__b______1" + "x" * 49
    assert len(note.partition("=")[2]) == 60


def test_there_are_so_many_notes_and_no_more() -> None:
    notes = Notes()
    notes.add_all("dropped", [f"p{number}" for number in range(24)])
    assert len(notes.told()) == 24
    notes.add_all("dropped", ["q", "r"])
    assert notes.told()[23:] == ("dropped=p23", "more=2")


def test_of_a_flood_of_notes_it_is_known_how_many_there_were() -> None:
    notes = Notes()
    notes.add_all("dropped", [f"p{number}" for number in range(5000)])
    notes.add("dropped", "p0")
    assert notes.told()[0] == "dropped=p0(2)"
    assert notes.told()[24:] == (f"more={5000 - 24}",)


def test_no_notes_are_none() -> None:
    assert Notes().told() == ()


def test_a_header_holds_printable_ascii_and_not_too_much() -> None:
    assert header_text("a=b; é\r\nx: y") == "a=b; ???x: y"
    assert len(header_text("x" * 5000)) == 1000
