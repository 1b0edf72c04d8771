"""`POST /v1/embeddings`: batches, base64 and float, `dimensions`; passed on to an OpenAI-compatible upstream.

What the client asked for is what it gets: numbers become base64 (little-endian float32) and back where an upstream knows one of them
only, and a batch that an upstream finds too large is halved until it fits.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flask

from compat import jsonio
from compat.calls.call import Origin, call_from
from compat.calls.gateway import Gateway
from compat.calls.run import CallRun
from compat.endpoints.answers import error_body, json_body
from compat.endpoints.body import read_envelope
from compat.endpoints.calls import GONE, HeadersOf, read_origin
from compat.endpoints.hangup import ClientWatch
from compat.errors import BadRequest, ClientGone, GatewayError, ModelNotFound, UpstreamBroken, UpstreamRefusal
from compat.protocols.chat.embeddings import EMBEDDINGS
from compat.routing.router import Deployment, Route, route_over
from compat.wire.envelope import Envelope

ENDPOINT = "embeddings"
_TOO_MANY = re.compile(
    r"batch|too many (?:inputs|items|documents|texts|requests in)|at most \d+|maximum .*(?:inputs|items|texts)", re.IGNORECASE
)
_ADVICE = (
    "Set the key of an upstream that has embedding models, for example OPENAI_API_KEY, GEMINI_API_KEY or MISTRAL_API_KEY (see "
    ".env.example), or run Ollama here with one (`ollama pull nomic-embed-text`). Then use a name like 'openai/text-embedding-3-small' or "
    "'ollama/nomic-embed-text', or give it a name of your own under [models.\"NAME\"] in config.toml."
)


def embeddings_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("embeddings", __name__)
    headers_of = HeadersOf(EMBEDDINGS)

    @blueprint.post("/v1/embeddings")
    def embeddings() -> flask.Response:
        environ = flask.request.environ
        origin = read_origin(gateway, environ, headers_of)
        envelope = read_envelope(environ, gateway.settings.server, gateway.offload)
        ask = gateway.offload.run(envelope.body, partial(read_request, envelope))
        batch = _Batch(gateway, envelope, ask, embedding_route(gateway, ask.model), origin)
        watch = ClientWatch(environ)
        try:
            with watch:
                rows = batch.rows(ask.inputs)
        except GatewayError as error:
            return error_body(error, batch.headers, EMBEDDINGS).response()
        except ClientGone:
            return GONE.response()
        finally:
            watch.close()
        document = {
            "object": "list",
            "data": [{"object": "embedding", "index": number, "embedding": row} for number, row in enumerate(rows)],
            "model": ask.model,
            "usage": {"prompt_tokens": batch.tokens, "total_tokens": batch.tokens},
        }
        return json_body(jsonio.encode(document), headers=batch.headers).response()

    return blueprint


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """What was asked for. `inputs` are texts or lists of token numbers."""

    model: str
    inputs: tuple[Any, ...]
    is_base64: bool


def read_request(envelope: Envelope) -> EmbeddingsRequest:
    """The request in `envelope`. `BadRequest` names the field that is wrong."""
    model = envelope.value("model")
    if not isinstance(model, str) or not model.strip():
        raise BadRequest("'model' must be a name: see GET /v1/models.", param="model")
    wanted = envelope.value("encoding_format", "float")
    if wanted not in ("float", "base64"):
        raise BadRequest("'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    dimensions = envelope.value("dimensions")
    if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions < 1):
        raise BadRequest("'dimensions' must be a positive number.", param="dimensions")
    value = envelope.value("input")
    inputs = value if isinstance(value, list) and not _is_tokens(value) else [value]
    if not inputs or not all((isinstance(item, str) and item) or _is_tokens(item) for item in inputs):
        raise BadRequest("'input' must be a text or a list of texts, none of them empty, or token numbers.", param="input")
    return EmbeddingsRequest(model.strip(), tuple(inputs), is_base64=wanted == "base64")


def embedding_route(gateway: Gateway, name: str) -> Route:
    """The deployments that can make embeddings under `name`. `ModelNotFound` says what to configure.

    A name that nobody lists goes to the upstreams whose list is not known.
    """
    router = gateway.router
    try:
        found = [deployment for deployment in router.resolve(name).deployments if _makes_embeddings(deployment)]
    except GatewayError:
        found = []
        for upstream in router.upstreams.values():
            deployment = Deployment(upstream, name, gateway.catalog.model_of(upstream.kind.name, name))
            if _makes_embeddings(deployment) and not upstream.models and upstream.name not in router.offers:
                found.append(deployment)
    if not found:
        is_any = any(ENDPOINT in upstream.kind.paths for upstream in router.upstreams.values())
        words = (
            "is not an embedding model of any upstream" if is_any else "can't be served: no upstream with embedding models is configured"
        )
        raise ModelNotFound(f"'{name[:200]}' {words}. {_ADVICE}", param="model")
    return route_over(name, found)


@dataclass(slots=True)
class _Batch:
    """The inputs of one request, on their way in as few calls as the upstream allows. Mutable: all from `tokens` on."""

    gateway: Gateway
    envelope: Envelope
    ask: EmbeddingsRequest
    route: Route
    origin: Origin
    tokens: int = 0
    upstream: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)

    def rows(self, inputs: Sequence[Any]) -> list[Any]:
        """The embeddings of `inputs` in their order. Errors: any `GatewayError`."""
        envelope = self.envelope
        if len(inputs) != len(self.ask.inputs):
            envelope = Envelope(envelope.replaced({"input": jsonio.encode(list(inputs))}))
        run = CallRun(self.gateway, call_from(EMBEDDINGS, envelope, **self.origin), route=self.route)
        try:
            body = run.whole()
        except UpstreamRefusal as error:
            if len(inputs) > 1 and error.status in {400, 413, 422} and _TOO_MANY.search(error.message):
                half = len(inputs) // 2
                return [*self.rows(inputs[:half]), *self.rows(inputs[half:])]
            raise
        finally:
            self.headers = run.headers()
        assert run.attempt is not None
        self.upstream = run.attempt.deployment.name
        usage, _ = run.used
        self.tokens += usage.prompt_tokens if usage else 0
        return self.gateway.offload.run(body, lambda: self._read(jsonio.decode(body), len(inputs)))

    def _read(self, document: dict[str, Any], count: int) -> list[Any]:
        rows = document.get("data")
        if not isinstance(rows, list) or len(rows) != count or not all(isinstance(row, dict) for row in rows):
            raise UpstreamBroken(f"{self.upstream} did not answer with {count} embeddings.")
        ordered = sorted(enumerate(rows), key=lambda pair: _index(pair[1], pair[0]))
        return [_encoded(row.get("embedding"), self.ask.is_base64, self.upstream) for _, row in ordered]


def _index(row: dict[str, Any], position: int) -> int:
    index = row.get("index")
    return index if isinstance(index, int) else position


def _encoded(embedding: Any, is_base64: bool, upstream: str) -> str | list[float]:
    """An embedding as it was asked for, however it came."""
    try:
        if isinstance(embedding, str):
            data = base64.b64decode(embedding, validate=True)
            return embedding if is_base64 else list(struct.unpack(f"<{len(data) // 4}f", data))
        if isinstance(embedding, list) and embedding:
            data = struct.pack(f"<{len(embedding)}f", *embedding)
            return base64.b64encode(data).decode() if is_base64 else embedding
    except (binascii.Error, struct.error, OverflowError) as error:
        raise UpstreamBroken(f"{upstream} sent a malformed embedding.") from error
    raise UpstreamBroken(f"{upstream} sent an answer without an embedding.")


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, int) and not isinstance(item, bool) for item in value)


def _makes_embeddings(deployment: Deployment) -> bool:
    return ENDPOINT in deployment.upstream.kind.paths and not deployment.is_embedded
