"""From the name a client asks for to the deployments that can serve it.

A name is looked for in this order; the first that fits wins:

1. a route of the configuration
2. an alias of the catalog: every configured upstream that offers its model, best first; when none does, each upstream's default model;
   when there is no upstream at all, the embedded model
3. `upstream/model`, any model of a configured upstream
4. an exact id: of the catalog, or in an upstream's own list
5. the embedded model by its own name
6. `claude-compat/NAME`, for clients that show no name without `claude` in it: what NAME leads to

Anything else is `ModelNotFound`, with the nearest names.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from compat.config.catalog import Catalog, Model
from compat.config.sections import ModelSettings, RouteStep
from compat.errors import ModelNotFound, NoUpstream
from compat.protocols.base import WireApi
from compat.protocols.refusals import endpoint_mark
from compat.routing.upstreams import EMBEDDED_KIND
from compat.upstream.client import Upstream
from compat.upstream.listing import Listing

FOREIGN = "claude-compat/"
_MAX_KEPT_ROUTES = 10_000
_MAX_KEPT_CHARS = 500


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on one upstream: `target` is the upstream's own id of it."""

    upstream: Upstream
    target: str
    model: Model

    @property
    def name(self) -> str:
        """`upstream/model`, as configurations and logs write it."""
        return f"{self.upstream.name}/{self.target}"

    def priced(self, now_s: float) -> Deployment:
        """The deployment with the price of a time (seconds since 1970)."""
        price = self.model.price.at(now_s)
        return self if price is self.model.price else replace(self, model=msgspec.structs.replace(self.model, price=price))

    @property
    def wanted_api(self) -> str:
        """The wire API that the model does everything on at its vendor, where it is called by one on which it does not; else empty."""
        apis, kind = self.model.apis, self.upstream.kind
        is_vendors = self.upstream.base_url == kind.base_url and kind.name in {self.model.owned_by, *itertools.islice(self.model.ids, 1)}
        return apis[0] if apis and is_vendors and not set(apis) & set(self.apis) else ""

    @property
    def apis(self) -> Collection[WireApi]:
        """The wire APIs that it can be called by, the best first: those on which the model does everything, else the upstream's."""
        spoken = self.upstream.kind.apis
        return [api for wanted in self.model.apis for api in spoken if api == wanted] or spoken

    def apis_left(self, refused: Collection[str]) -> Collection[WireApi]:
        """Those of them that were not refused; where there is none, the upstream's others, then all of them."""
        if not refused:
            return self.apis
        for apis in (self.apis, self.upstream.kind.apis):
            if left := [api for api in apis if endpoint_mark(api) not in refused]:
                return left
        return self.apis

    @property
    def is_embedded(self) -> bool:
        """Whether the engine on this machine serves it."""
        return self.upstream.kind is EMBEDDED_KIND


@dataclass(frozen=True, slots=True)
class Group:
    """Deployments of equal priority with their weights."""

    deployments: tuple[Deployment, ...]
    weights: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a public name goes: groups in the order of their priority.

    `model` has the facts that the name is listed with, those of the first deployment. `deployments` are those of all groups, best first;
    `has_choice`: there are several of them, or several keys for one.
    """

    name: str
    groups: tuple[Group, ...]
    deployments: tuple[Deployment, ...] = field(init=False)
    has_choice: bool = field(init=False)

    def __post_init__(self) -> None:
        deployments = tuple(itertools.chain.from_iterable(group.deployments for group in self.groups))
        object.__setattr__(self, "deployments", deployments)  # the way to derive a field of a frozen class, as its documentation has it
        object.__setattr__(self, "has_choice", len(deployments) > 1 or any(len(one.upstream.keys) > 1 for one in deployments))

    @property
    def model(self) -> Model:
        """The facts of the first deployment's model."""
        return self.deployments[0].model


class Router:
    """Names to routes.

    Mutable: `upstreams`, `offers` and `listings`, which discovery replaces as a whole; and the routes that were found.
    """

    def __init__(
        self,
        catalog: Catalog,
        upstreams: Mapping[str, Upstream],
        models: Mapping[str, ModelSettings],
        embedded: Deployment | None,
    ) -> None:
        self._catalog = catalog
        self._models = models
        self._embedded = embedded
        self.upstreams: Mapping[str, Upstream] = dict(upstreams)
        self.offers: Mapping[str, tuple[str, ...]] = {}
        self.listings: Mapping[str, Listing] = {}
        self._replacements: Mapping[str, str] = {}
        self._routes: dict[str, Route] = {}

    def __len__(self) -> int:
        """How many names it has found routes for, and keeps them."""
        return len(self._routes)

    def learn(
        self, upstreams: Mapping[str, Upstream], offers: Mapping[str, Sequence[str]], listings: Mapping[str, Listing] | None = None
    ) -> None:
        """Take what discovery found: the upstreams there are now, the model ids each of them lists, and what else their lists say."""
        self.upstreams = dict(upstreams)
        self.listings = dict(listings or {})
        self.offers = {name: tuple(ids) for name, ids in offers.items()}
        self._routes = {}

    def kind_of(self, upstream: str) -> str:
        """The kind of an upstream by its name; empty for one that is not there any more."""
        found = self.upstreams.get(upstream)
        return found.kind.name if found is not None else "embedded" if upstream == "embedded" else ""

    def replace(self, replacements: Mapping[str, str]) -> None:
        """Let aliases of dead models (ids of the catalog) go to the models that replace them."""
        self._replacements = dict(replacements)
        self._routes = {}

    def configured_models(self) -> dict[str, Model]:
        """The names whose route the configuration gives, each with the facts of its first model; those that lead nowhere are left out."""
        found = {}
        for name, row in self._models.items():
            try:
                found[name] = self.resolve(name).model if row.route else None
            except NoUpstream:
                continue
        return {name: model for name, model in found.items() if model is not None}

    def resolve(self, name: str) -> Route:
        """The route of a public name. Errors: `ModelNotFound`, `NoUpstream`."""
        route = self._routes.get(name)
        if route is None:
            route = self._find(name)
            if len(self._routes) >= _MAX_KEPT_ROUTES:
                self._routes = {}
            if len(name) <= _MAX_KEPT_CHARS:
                self._routes[name] = route
        return route

    def names(self) -> list[str]:
        """All public names that resolve now: configured ones, aliases, exact ids; no upstream's id twice."""
        names = [name for name, row in self._models.items() if row.route or name in self._catalog.aliases or self._exact(name)]
        names += self._catalog.aliases
        for model in self._catalog.models.values():
            if self._offering(model):
                names.append(model.id)
        for upstream, ids in self.offers.items():
            names += [f"{upstream}/{model_id}" for model_id in ids]
        if self._embedded is not None:
            names.append(self._embedded.target)
        return list(dict.fromkeys(names))

    def _find(self, name: str) -> Route:
        if (row := self._models.get(name)) is not None and row.route:
            return self._configured(name, row.route)
        if (alias := self._catalog.aliases.get(name)) is not None:
            target = self._replacements.get(alias.target, alias.target)
            return route_over(name, self._of_alias(self._catalog.models[target]))
        upstream_name, _, target = name.partition("/")
        if target and (upstream := self.upstreams.get(upstream_name)) is not None:
            return route_over(name, [self._deployment(upstream, target)])
        exact = self._exact(name)
        if exact:
            return route_over(name, exact)
        if self._embedded is not None and name == self._embedded.target:
            return route_over(name, [self._embedded])
        if name.startswith(FOREIGN) and not (bare := name.removeprefix(FOREIGN)).startswith(FOREIGN):
            return self.resolve(bare)
        raise self._unknown(name)

    def _configured(self, name: str, steps: Iterable[str | RouteStep]) -> Route:
        """Steps without a priority keep the order in which they are written: a plain list is a failover chain."""
        groups: dict[int, list[tuple[Deployment, int]]] = {}
        for position, step in enumerate(steps):
            row = RouteStep(to=step) if isinstance(step, str) else step
            upstream_name, _, target = row.to.partition("/")
            upstream = self.upstreams.get(upstream_name)
            if upstream is not None:
                entry = (self._with_facts(self._deployment(upstream, target), name), row.weight)
            elif self._embedded is not None and upstream_name == self._embedded.upstream.name:
                entry = (self._embedded, row.weight)
            else:
                continue
            groups.setdefault(position if row.priority is None else row.priority, []).append(entry)
        if not groups:
            raise NoUpstream(f"No upstream of the route of '{name}' is configured.")
        ordered = [groups[priority] for priority in sorted(groups)]
        return Route(name, tuple(Group(tuple(d for d, _ in group), tuple(w for _, w in group)) for group in ordered))

    def _with_facts(self, deployment: Deployment, name: str) -> Deployment:
        """The deployment as this name's own configuration has it: limits, prices, how the model behaves."""
        facts = self._models[name].facts
        return replace(deployment, model=self._catalog.with_facts(deployment.model, facts)) if facts else deployment

    def _of_alias(self, model: Model) -> list[Deployment]:
        offering = self._offering(model)
        if offering:
            return offering
        fallbacks = []
        for upstream in self.upstreams.values():
            listed = self._listed(upstream)
            default = self._default_of(upstream) if upstream.base_url == upstream.kind.base_url or not listed else ""
            target = default or (listed[0] if listed else "")
            if target:
                fallbacks.append(self._deployment(upstream, target))
        if fallbacks:
            return fallbacks
        if self._embedded is not None:
            return [self._embedded]
        raise NoUpstream("No upstream is configured: set a key (for example ANTHROPIC_API_KEY), or switch the embedded model on.")

    def _default_of(self, upstream: Upstream) -> str:
        """The kind's own default model, or what replaces it once it is dead."""
        kind = upstream.kind
        heir = self._catalog.models.get(self._replacements.get(self._catalog.model_of(kind.name, kind.default_model).id, ""))
        return kind.default_model if heir is None else heir.ids.get(kind.name, kind.default_model)

    def _offering(self, model: Model) -> list[Deployment]:
        """The model wherever it is offered: by the catalog's ids for the kind, else by the upstream's own list.

        A server under another address than its kind's own may offer anything: there its list decides, once it is known.
        """
        found = []
        for upstream in self.upstreams.values():
            kind = upstream.kind
            its_id = model.ids.get(kind.name, model.id)
            listed = self._listed(upstream)
            is_presumed = kind.name in model.ids and (not listed or (upstream.base_url == kind.base_url and not upstream.models))
            target = next((name for name in (its_id, model.id) if name in listed), its_id if is_presumed else "")
            if target:
                found.append(Deployment(upstream, target, self._as_listed(upstream, target, model)))
        return found

    def _listed(self, upstream: Upstream) -> tuple[str, ...]:
        return (*upstream.models, *self.offers.get(upstream.name, ()))

    def _exact(self, name: str) -> list[Deployment]:
        model = self._catalog.models.get(name)
        if model is not None:
            return self._offering(model)
        for kind_name in dict.fromkeys(upstream.kind.name for upstream in self.upstreams.values()):
            known = self._catalog.model_of(kind_name, name)
            if name in known.ids.values() and (found := self._offering(known)):
                return found
        return [self._deployment(upstream, name) for upstream in self.upstreams.values() if name in self._listed(upstream)]

    def _deployment(self, upstream: Upstream, target: str) -> Deployment:
        model = self._catalog.model_of(upstream.kind.name, target, is_local=upstream.kind.local)
        return Deployment(upstream, target, self._as_listed(upstream, target, model))

    def _as_listed(self, upstream: Upstream, target: str, model: Model) -> Model:
        """The model with what the upstream's own list says, where the catalog knows it by its family or by thin sources only."""
        listing = self.listings.get(upstream.name)
        is_thin = model.source == "reseller" or model.id not in self._catalog.models
        return self._catalog.with_facts(model, listing.facts.get(target, {})) if listing is not None and is_thin else model

    def _unknown(self, name: str) -> ModelNotFound:
        model = self._catalog.models.get(name)
        if model is not None and (kinds := ", ".join(model.ids) or model.owned_by):
            words = f"The model '{name}' is known, but no upstream that offers it is configured (it is offered by: {kinds})."
            return ModelNotFound(words, param="model")
        if name in self._models:
            words = f"The model '{name}' is in the configuration, but without a route, and no upstream lists it."
            words += f' Give [models."{name}"] a route.'
            return ModelNotFound(words, param="model")
        nearest = self._catalog.nearest_names(name, self.names())
        are = "names are" if len(nearest) > 1 else "name is"
        hint = f" The nearest {are}: {', '.join(nearest)}." if nearest else ""
        return ModelNotFound(f"The model '{name[:200]}' does not exist here.{hint} GET /v1/models lists all.", param="model")


def route_over(name: str, deployments: Sequence[Deployment]) -> Route:
    """A route that tries these deployments one after the other."""
    return Route(name, tuple(Group((deployment,), (1,)) for deployment in deployments))
