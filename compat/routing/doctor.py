"""The doctor of aliases: does each name still lead to a model that is there, and for how long?

    diagnose(catalog, upstreams, offers, today, ...) -> Diagnosis(findings, replacements)     pure
    Doctor(...).examine()                                                                at start, and once a day

A model is judged by two sources: its retirement date in the catalog, and the own list of each upstream that should have it, where that
list is known; a date in a list (`shutdown_date`) goes before the catalog's. It is *dead* on the day it retires, or when no list that is
known has it; then the model that its catalog row names (`replaced_by`), or the one after that, takes its place, and says so. Nothing here
spends a token.
"""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from compat.config.catalog import Catalog, Model
from compat.routing.router import Router
from compat.telemetry.calllog import Level
from compat.upstream.client import Upstream

WARN_DAYS = 60
INTERVAL_S = 86_400.0
_FIRST_LOOK_S = 60.0
"""Discovery asks for the lists at start; by then it has them, or they can't be read."""
_DATED = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest)")

_ROUTE = "[models.NAME] route gives it another one."

Severity = Literal["warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should know of a public name. `kind` is for machines: `retires`, `retired`, `unlisted`, `replaced`."""

    severity: Severity
    kind: str
    name: str
    model: str
    message: str
    day: datetime.date | None = None

    def fields(self) -> dict[str, Any]:
        """For the log and `/healthz`."""
        fields: dict[str, Any] = {"name": self.name, "model": self.model, "kind": self.kind, "severity": self.severity}
        return {**fields, "message": self.message, **({"day": self.day.isoformat()} if self.day else {})}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found. `replacements` maps a dead model of the catalog to the living one that takes its calls."""

    findings: tuple[Finding, ...] = ()
    replacements: Mapping[str, str] = field(default_factory=dict)


def diagnose(
    catalog: Catalog,
    upstreams: Mapping[str, Upstream],
    offers: Mapping[str, Sequence[str]],
    today: datetime.date,
    *,
    names: Mapping[str, Model],
    shutdowns: Mapping[str, Mapping[str, datetime.date]],
) -> Diagnosis:
    """Look at every alias whose model some upstream should have, and at `names`: routes of the user's own, which are never replaced.

    `offers` are the lists that are known: upstream -> ids. `shutdowns` are the days on which models end by these lists; they go before
    the catalog's.
    """
    ward = _Ward(catalog, upstreams, offers, today, shutdowns)
    findings: list[Finding] = []
    replacements: dict[str, str] = {}
    for name, alias in catalog.aliases.items():
        model = catalog.models[alias.target]
        if name in names or not ward.holders(model):
            continue
        findings += ward.look_at(name, model)
        if ward.is_dead(model):
            successor = ward.successor(model)
            if successor is None:
                words = f"'{name}' has no model left: {model.id} is gone, and no replacement is offered. {_ROUTE}"
                findings.append(Finding("error", "lost", name, model.id, words))
            else:
                replacements[model.id] = successor.id
                words = f"Calls to '{name}' go to {successor.id} instead of {model.id}."
                findings.append(Finding("warning", "replaced", name, model.id, words))
    for upstream in upstreams.values():  # what answers instead of models that nobody offers
        model = catalog.model_of(upstream.kind.name, upstream.kind.default_model)
        if model.id not in replacements and ward.is_dead(model) and (successor := ward.successor(model)) is not None:
            replacements[model.id] = successor.id
    for name, model in names.items():
        findings += ward.look_at(name, model)
    return Diagnosis(tuple(findings), replacements)


@dataclass(frozen=True, slots=True)
class _Ward:
    """What `diagnose` knows."""

    catalog: Catalog
    upstreams: Mapping[str, Upstream]
    offers: Mapping[str, Sequence[str]]
    today: datetime.date
    shutdowns: Mapping[str, Mapping[str, datetime.date]]

    def ends(self, model: Model) -> datetime.date | None:
        """The day on which the model retires: by the lists of the upstreams, the first of them, else by the catalog."""
        told = (self.shutdowns.get(name, {}).get(model.ids.get(upstream.kind.name, model.id)) for name, upstream in self.upstreams.items())
        return min((day for day in told if day is not None), default=model.retires)

    def holders(self, model: Model) -> list[Upstream]:
        """The upstreams that have the model, by the catalog's ids for their kind; those under an address of their own by their list."""
        found = []
        for upstream in self.upstreams.values():
            listed = self._listed(upstream)
            is_own_address = upstream.base_url != upstream.kind.base_url or bool(upstream.models)
            if upstream.kind.name in model.ids and (not is_own_address or listed is None or self._has(upstream, model)):
                found.append(upstream)
        return found

    def is_dead(self, model: Model) -> bool:
        """Whether no call can be served by it any more."""
        words = [self._has(upstream, model) for upstream in self.holders(model)]
        if (day := self.ends(model)) is not None and day <= self.today:
            return True not in words  # a list that still has it knows better than the catalog
        return bool(words) and all(word is False for word in words)

    def successor(self, model: Model) -> Model | None:
        """The first living model of those that replace it, one after the other."""
        seen = {model.id}
        while (name := model.replaced_by) is not None and name in self.catalog.models and name not in seen:
            seen.add(name)
            model = self.catalog.models[name]
            if self.holders(model) and not self.is_dead(model):
                return model
        return None

    def look_at(self, name: str, model: Model) -> Iterator[Finding]:
        """What is to be said of one name and its model."""
        if (day := self.ends(model)) is not None:
            left = (day - self.today).days
            then = f"; {model.replaced_by} replaces it" if model.replaced_by else ""
            if left <= 0:
                severity: Severity = "error" if self.is_dead(model) else "warning"
                yield Finding(severity, "retired", name, model.id, f"'{name}': {model.id} retired on {day}{then}.", day)
            elif left <= WARN_DAYS:
                days = "1 day" if left == 1 else f"{left} days"
                yield Finding("warning", "retires", name, model.id, f"'{name}': {model.id} retires on {day}, in {days}{then}.", day)
        for upstream in self.holders(model):
            if self._has(upstream, model) is False:
                target = model.ids[upstream.kind.name]
                yield Finding("error", "unlisted", name, model.id, f"'{name}': {upstream.name} does not list {target}. {_ROUTE}")

    def _has(self, upstream: Upstream, model: Model) -> bool | None:
        """Whether the upstream's list has the model; `None` where the list is not known."""
        listed = self._listed(upstream)
        return None if listed is None else lists(listed, model.ids[upstream.kind.name])

    def _listed(self, upstream: Upstream) -> Collection[str] | None:
        listed = (*upstream.models, *self.offers.get(upstream.name, ()))
        return listed or None


def lists(ids: Collection[str], wanted: str) -> bool:
    """Whether `wanted` is among `ids`, as it is or with a date, which many lists add."""
    if wanted in ids:
        return True
    return any(other.startswith(wanted) and _DATED.fullmatch(other, len(wanted)) for other in ids)


class Doctor:
    """Examines again and again, and reports what is new.

    Mutable: `diagnosis`, what was reported, the router's replacements, and `may_tell`: of several workers with one log, one reports.
    """

    def __init__(
        self,
        catalog: Catalog,
        router: Router,
        now: Callable[[], float],
        write: Callable[[str, Mapping[str, Any], Level], None],
        stop: threading.Event | None = None,
    ) -> None:
        """`now` gives seconds since 1970, `write` takes an event, its fields and a level; `stop`, once set, ends the background work."""
        self._catalog = catalog
        self._router = router
        self._now = now
        self._write = write
        self._stop = stop or threading.Event()
        self._told: frozenset[Finding] = frozenset()
        self.diagnosis = Diagnosis()
        self.may_tell: Callable[[], bool] = lambda: True

    def carry_on(self, before: Doctor) -> None:
        """Say nothing again that `before` has said."""
        self._told, self.may_tell = before._told, before.may_tell

    def start(self) -> None:
        """Examine soon, when the lists are there, and then daily, in the background."""
        threading.Thread(target=self._run, name="doctor", daemon=True).start()

    def stop(self) -> None:
        """End the background work."""
        self._stop.set()

    def examine(self) -> Diagnosis:
        """Look at everything, let dead models be replaced, and write down what is to be said."""
        today = datetime.datetime.fromtimestamp(self._now(), datetime.UTC).date()
        router = self._router
        shutdowns = {name: listing.shutdowns for name, listing in router.listings.items()}
        names = router.configured_models()
        diagnosis = diagnose(self._catalog, router.upstreams, router.offers, today, names=names, shutdowns=shutdowns)
        router.replace(diagnosis.replacements)
        self.diagnosis = diagnosis
        if self.may_tell():
            for finding in diagnosis.findings:
                if finding not in self._told:  # the same words again, a minute after the start, are noise
                    self._write(f"model.{finding.kind}", finding.fields(), finding.severity)
            self._told = frozenset(diagnosis.findings)
        return diagnosis

    def report(self) -> list[dict[str, Any]]:
        """For `/healthz`."""
        return [finding.fields() for finding in self.diagnosis.findings]

    def _run(self) -> None:
        wait_s = _FIRST_LOOK_S
        while not self._stop.wait(wait_s):
            self.examine()
            wait_s = INTERVAL_S
