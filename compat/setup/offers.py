"""What a gateway offers, by its model list: the one source of every client's configuration.

read_offers(rows)  rows of `GET /v1/models`, of this gateway or of a running one elsewhere
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compat.protocols.client_protocol import DEFAULT_MODEL

PROVIDER = "openai-compat"
"""What the gateway is called in the clients' files."""
MAX_LISTED = 20
"""An upstream that lists more ids than these is not copied into a configuration: its models are reached by name all the same."""
_MIN_SMALL_CONTEXT = 32_000


@dataclass(frozen=True, slots=True)
class Offer:
    """A public model name with its limits (tokens), prices (US dollars per million tokens) and abilities."""

    id: str
    name: str
    context: int = 128_000
    output: int = 16_384
    input_price: float = 0.0
    output_price: float = 0.0
    cache_read_price: float = 0.0
    cache_write_price: float = 0.0
    tools: bool = True
    images: bool = False
    files: bool = False
    reasoning: bool = False
    is_short_lived: bool = False

    @property
    def is_priced(self) -> bool:
        """Whether anything is known to cost something."""
        return self.input_price > 0


Offers = Sequence[Offer]


def read_offers(rows: Iterable[Mapping[str, Any]]) -> tuple[Offer, ...]:
    """The offers of a model list that belong into a configuration: all names, less those of upstreams that list very many."""
    offers = [_offer(row) for row in rows if isinstance(row.get("id"), str)]
    counts: dict[str, int] = {}
    for offer in offers:
        upstream, slash, _ = offer.id.partition("/")
        counts[upstream] = counts.get(upstream, 0) + bool(slash)
    return tuple(offer for offer in offers if counts[offer.id.partition("/")[0]] <= MAX_LISTED)


def main_model(offers: Iterable[Offer]) -> str:
    """The model a client starts with: the default one where it is offered, else the first."""
    names = [offer.id for offer in offers]
    return DEFAULT_MODEL if DEFAULT_MODEL in names or not names else names[0]


def small_model(offers: Iterable[Offer], main: str) -> str:
    """The cheapest model that can do small work (titles, summaries); `main` where nothing is known to be cheaper."""
    rows = {offer.id: offer for offer in offers}
    fit = [offer for offer in rows.values() if offer.is_priced and offer.context >= _MIN_SMALL_CONTEXT and not offer.is_short_lived]
    best = min(fit, key=lambda offer: (offer.input_price + offer.output_price, offer.id), default=None)
    if best is None or (main in rows and rows[main].is_priced and rows[main].input_price <= best.input_price):
        return main
    return best.id


def _offer(row: Mapping[str, Any]) -> Offer:
    pricing, abilities = _table(row, "pricing"), _table(row, "capabilities")
    context = _count(row, "context_length", 128_000)
    return Offer(
        id=row["id"],
        name=str(row.get("display_name") or row.get("name") or row["id"]),
        context=context,
        output=min(_count(row, "max_output_tokens", 16_384), max(context // 2, 1)),
        input_price=_per_million(pricing.get("prompt")),
        output_price=_per_million(pricing.get("completion")),
        cache_read_price=_per_million(pricing.get("input_cache_read")),
        cache_write_price=_per_million(pricing.get("input_cache_write")),
        tools=abilities.get("tools") is not False,
        images=abilities.get("images") is True,
        files=abilities.get("files") is True,
        reasoning=abilities.get("reasoning") is True,
        is_short_lived="retires" in row,
    )


def _table(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = row.get(key)
    return value if isinstance(value, Mapping) else {}


def _count(row: Mapping[str, Any], key: str, default: int) -> int:
    value = row.get(key)
    return value if isinstance(value, int) and value > 0 else default


def _per_million(value: Any) -> float:
    """Dollars per million tokens, of OpenRouter's decimal text in dollars per token."""
    try:
        return round(float(value or 0) * 1_000_000, 6)
    except (TypeError, ValueError):
        return 0.0
