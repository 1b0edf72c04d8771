"""How clients of a protocol want to read the list of models, where its URL is shared by several protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
"""What the gateway says of one name: the fields of OpenAI's list, and more."""
Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Listing:
    """A protocol's form of the list.

    `is_asked(environ)`: whether a request is from its clients. `page` makes a page of rows by the URL's query, `one` a single row's body.
    Errors: `BadRequest` for a query that can't be followed.
    """

    is_asked: Callable[[Mapping[str, Any]], bool]
    page: Callable[[Sequence[Row], Query], bytes]
    one: Callable[[Row], bytes]
