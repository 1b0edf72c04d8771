"""The sections of the configuration, each with its defaults; `compat.config.settings` reads them.

Times are seconds, sizes bytes, unless a name says otherwise. Every section is frozen, and refuses keys that it does not know.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

import msgspec

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
"""Not `inf`, which not everybody who is given a time can wait for."""
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Dollars = Annotated[float, msgspec.Meta(ge=0)]
_HASH, _WEB_ADDRESS = "^sha256:[0-9a-f]{64}$", "^(https?://[^/?#]+.*)?$"
PATTERNS = {_HASH: "the hash that `--new-key` shows", _WEB_ADDRESS: "an address that begins with http:// or https://"}
"""What a text that has to match is, in words."""
KeyHash = Annotated[str, msgspec.Meta(pattern=_HASH)]
Moment = Annotated[datetime.datetime, msgspec.Meta(tz=True)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class ServerSettings(Section, frozen=True):
    """`[server]`: where the gateway listens and whom it serves.

    `allowed_hosts` and `allowed_origins` extend the loopback names (hosts only beside client keys), `shutdown_s` bounds how long running
    answers may finish, `heartbeat_s` is the silence after which a stream gets a comment, `max_body_bytes` bounds a request. While many
    streams flow, pieces that arrive within `gather_ms` are handled together. Under gunicorn there are `workers` processes, and those that
    a restart or a reload replaces may finish their answers for `drain_s`.
    `websockets`: the Responses API is served over them as well.
    """

    host: str = "127.0.0.1"
    port: Port = 28889
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_body_bytes: Positive = 32 * 1024 * 1024
    body_timeout_s: PositiveSeconds = 60.0
    heartbeat_s: PositiveSeconds = 10.0
    gather_ms: Annotated[float, msgspec.Meta(ge=0, le=20)] = 1.0
    shutdown_s: Seconds = 30.0
    max_connections: Positive = 10_000
    websockets: bool = True
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 2
    drain_s: Seconds = 900.0


class TimeoutSettings(Section, frozen=True):
    """`[timeouts]`, and `timeouts` of an upstream: seconds to connect, until the first byte of an answer, of silence within one.

    `total_s` bounds a whole call, with all its attempts; the longest of a route's upstreams counts.
    """

    connect_s: PositiveSeconds = 5.0
    first_byte_s: PositiveSeconds = 300.0
    silence_s: PositiveSeconds = 300.0
    total_s: PositiveSeconds = 3600.0


class UpstreamSettings(Section, frozen=True):
    """`[upstreams.NAME]`: a server that is called. `kind` is a row of the table of kinds; the other keys override the row.

    `models` names the models it offers, where it has no list of its own. `timeouts` overrides keys of `[timeouts]`. `wire_api` is the one
    API that it is called by, whatever its kind speaks and a model would rather have.
    """

    kind: str
    base_url: str = ""
    api_keys: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    models: tuple[str, ...] = ()
    timeouts: dict[str, PositiveSeconds] = {}
    ca_file: str = ""
    wire_api: Literal["", "chat", "responses", "messages"] = ""

    def __repr__(self) -> str:
        """Without keys and header values: they are secrets, and a `repr` ends up in tracebacks."""
        return f"UpstreamSettings(kind={self.kind!r}, base_url={self.base_url!r}, {len(self.api_keys)} keys, headers={list(self.headers)})"


class RouteStep(Section, frozen=True):
    """One deployment of a route: `to` is `upstream/model`. Lower `priority` is tried first; equal ones share calls by `weight`."""

    to: str
    weight: Positive = 1
    priority: int | None = None


class ModelSettings(Section, frozen=True):
    """`[models."NAME"]`: a public name of your own, or another route for a known one. `facts` overrides fields of the catalog,
    `rescue` whether answers are carried on after a fault."""

    route: tuple[str | RouteStep, ...] = ()
    facts: dict[str, Any] = {}
    rescue: bool | None = None


class RetrySettings(Section, frozen=True):
    """`[retry]`: `attempts` is the bound for one call, over all deployments; 1 switches retries and failover off.

    Of the calls of a minute, `budget_percent` and `budget_calls` more may be followed by a wait and another attempt at the same deployment;
    with 100 % a broken upstream is asked twice as often, until its circuit opens.
    Waits begin at `first_wait_s` and grow to `max_wait_s`; an upstream's own `retry-after` is obeyed up to `max_retry_after_s`.
    """

    attempts: Positive = 6
    tries_per_deployment: Positive = 2
    budget_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 100.0
    budget_calls: Count = 10
    first_wait_s: PositiveSeconds = 0.25
    max_wait_s: PositiveSeconds = 8.0
    max_retry_after_s: PositiveSeconds = 30.0


class CircuitSettings(Section, frozen=True):
    """`[circuit]`: what opens a circuit; after `cooldown_s` one call probes, and `successes` in a row close it again.

    It opens after `failures` in a row, after `unreachable` calls in a row that nobody answered, or when `failure_percent` of the calls of
    the last `window_s`, which are `min_calls` at least, failed. Where none of the last `min_calls` ended well, nobody but a probe is let
    through; else calls that have nobody else to ask are.
    """

    failures: Positive = 10
    unreachable: Positive = 5
    failure_percent: Annotated[float, msgspec.Meta(gt=0, le=100)] = 80.0
    min_calls: Positive = 20
    window_s: PositiveSeconds = 60.0
    cooldown_s: PositiveSeconds = 15.0
    successes: Positive = 1
    max_circuits: Positive = 10_000


class AffinitySettings(Section, frozen=True):
    """`[affinity]`: whether conversations stay on one deployment and key; at most `max_sessions` are remembered, each for `ttl_s`."""

    enabled: bool = True
    max_sessions: Positive = 10_000
    ttl_s: PositiveSeconds = 3600.0


class AdmissionSettings(Section, frozen=True):
    """`[concurrency]`: calls at once per upstream, adapted between `min_limit` and `max_limit`, from `first_limit` on.

    A 429 or 529 shrinks the limit, to `shrink_to` of what runs where all answers are such, by less where few are; so do answers that begin
    `slow_factor` times later than the best ones of `slow_window_s`, but never below `min_limit_when_slow`. `queue_length` calls may wait,
    each for `queue_wait_s`. A streaming request of `small_bytes` or less goes ahead.
    """

    first_limit: Positive = 512
    min_limit: Positive = 1
    max_limit: Positive = 1024
    min_limit_when_slow: Positive = 512
    shrink_to: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.7
    slow_factor: Annotated[float, msgspec.Meta(gt=1)] = 3.0
    slow_window_s: PositiveSeconds = 300.0
    queue_length: Positive = 256
    queue_wait_s: PositiveSeconds = 30.0
    small_bytes: Positive = 128 * 1024


class SingleFlightSettings(Section, frozen=True):
    """`[single_flight]`: whether identical calls share one upstream call, how much of it is kept, how far ahead of its readers it runs."""

    enabled: bool = True
    record_bytes: Positive = 1024 * 1024
    ahead_bytes: Positive = 64 * 1024


class RescueSettings(Section, frozen=True):
    """`[rescue]`: answers whose upstream died in the middle are carried on, at most `times` per call.

    With `hold_tool_calls_bytes` the frames of a tool call are shown when it is complete, as long as they are no longer than that: an
    upstream that dies in the middle of a call can then be asked again. 0 shows them as they come.
    """

    enabled: bool = True
    times: Positive = 4
    hold_tool_calls_bytes: Count = 16 * 1024


class DiscoverySettings(Section, frozen=True):
    """`[discovery]`: whether upstreams are asked for their model lists, and this machine for Ollama, LM Studio and llama-server."""

    enabled: bool = True
    interval_s: PositiveSeconds = 3600.0
    local_interval_s: PositiveSeconds = 15.0


class LogSettings(Section, frozen=True):
    """`[log]`: JSON lines in `file`, rotated at `max_bytes` with `backups` old files kept; `terminal` prints a readable line as well.

    `prompts` writes what clients ask into the file, too: to look for a fault, for it is all that they and their users say.
    """

    file: str = "logs/openai_compat.log"
    level: Literal["debug", "info", "warning", "error"] = "info"
    max_bytes: Positive = 20 * 1024 * 1024
    backups: Count = 5
    terminal: bool = True
    prompts: bool = False


class KeySettings(Section, frozen=True):
    """`[keys.NAME]`: a client key, stored as `sha256:<hex>`. With none configured, any key is accepted.

    `models` are the public names that it may call, `*` standing for anything; none: all of them. `group` is one of `[groups]`. While it is
    replaced, `old_hash` is the one before, accepted until `old_until`, or for as long as it is there. With `console` it may see everybody's
    calls in the console, not its own alone.
    """

    hash: KeyHash
    console: bool = False
    models: tuple[str, ...] = ()
    group: str = ""
    old_hash: KeyHash | None = None
    old_until: Moment | None = None


class GroupSettings(Section, frozen=True):
    """`[groups.NAME]`: what the keys of a group may do together: limit strings and US dollars per day and month, which they share; 0 and
    empty: no limit. `models` are those of its keys that name none themselves.
    """

    limit: str = ""
    day_usd: Dollars = 0.0
    month_usd: Dollars = 0.0
    models: tuple[str, ...] = ()


class EmbeddedSettings(Section, frozen=True):
    """`[embedded]`: the model on this machine that answers when no upstream is configured.

    `model`: `auto` begins with a small one and fetches the best that the machine has room for; `small` keeps the small one; or a preset
    (`smollm2-135m-instruct`, `qwen2.5-coder-0.5b-instruct`, `qwen2.5-coder-1.5b-instruct`), or the path of a `.gguf` file.
    `cache_dir` is where fetched models are kept; empty: the user's cache folder. A prompt that it would take longer than `max_prompt_s` to
    read is refused at once.
    """

    enabled: bool = True
    model: str = "auto"
    context_tokens: Positive = 8192
    parallel: Positive = 4
    threads: Count = 0
    cache_dir: str = ""
    max_prompt_s: PositiveSeconds = 60.0


class VaultSettings(Section, frozen=True):
    """`[vault]`: signed thinking, kept for clients that don't send it back.

    `path` is the SQLite file, relative to where `app.py` is; empty: memory only. Oldest records go first beyond `max_mb`.
    """

    enabled: bool = True
    path: str = "data/thinking.sqlite"
    max_mb: Positive = 256
    ttl_days: Positive = 14


class ResponsesSettings(Section, frozen=True):
    """`[responses]`: answers of the Responses API that are stored, for clients that go on from them, read them again, or leave meanwhile.

    `path` is the SQLite file, relative to where `app.py` is; with `storage.redis_url` they are kept there. Oldest ones go first beyond
    `max_mb`.
    """

    store: bool = False
    path: str = "data/responses.sqlite"
    max_mb: Positive = 512
    ttl_days: Positive = 30


class SealingSettings(Section, frozen=True):
    """`[sealing]`: the secret that signs what clients keep of other models' thoughts.

    `secrets` are one or more, the newest first; empty: one is made once and kept in the shared Redis, else in the file at `path`.
    """

    secrets: tuple[str, ...] = ()
    path: str = "data/sealing.secret"

    def __repr__(self) -> str:
        """Without the secrets: a `repr` ends up in tracebacks."""
        return f"SealingSettings(secrets={len(self.secrets)}, path={self.path!r})"


class PacingSettings(Section, frozen=True):
    """`[pacing]`: whether upstreams' rate-limit headers are obeyed, and the longest wait that is still better than another deployment."""

    enabled: bool = True
    max_wait_s: PositiveSeconds = 5.0


class CacheSettings(Section, frozen=True):
    """`[cache]`: whole answers, kept for `ttl_s`. Without `enabled` only calls that ask by `x-compat-cache: on` use it.

    In memory the entries take `max_mb` at most; in Redis its own `maxmemory` rules. No entry is larger than `max_entry_kb`.
    """

    enabled: bool = False
    ttl_s: PositiveSeconds = 3600.0
    max_mb: Positive = 64
    max_entry_kb: Positive = 1024


class BudgetSettings(Section, frozen=True):
    """`[limits.budget]`: US dollars a client key may spend in a day and in a month, both of UTC; 0: as many as it likes."""

    day_usd: Dollars = 0.0
    month_usd: Dollars = 0.0


class LimitSettings(Section, frozen=True):
    """`[limits]`: limit strings for each client key and each model (`client`, `model`), and for named ones (`clients`, `models`).

    A name's own limits replace the general ones. `budget` is each client key's, `budgets` those of named ones.
    """

    client: str = ""
    model: str = ""
    clients: dict[str, str] = {}
    models: dict[str, str] = {}
    budget: BudgetSettings = BudgetSettings()
    budgets: dict[str, BudgetSettings] = {}


class UsageSettings(Section, frozen=True):
    """`[usage]`: usage and cost of each call, kept in the SQLite file `path`, relative to where `app.py` is; empty: not at all.

    Single calls are kept for `keep_days`; sums by day longer, while all of it fits into `max_mb`.
    """

    enabled: bool = True
    path: str = "data/usage.sqlite"
    keep_days: Positive = 90
    max_mb: Positive = 256


class SearchSettings(Section, frozen=True):
    """`[search]`: where searches of the web go that a client leaves to its server, when the upstream runs none.

    `url` is an endpoint with SearXNG's JSON API; empty: there is no search. Its answer may take `timeout_s`, and holds `max_results` at
    most.
    """

    url: Annotated[str, msgspec.Meta(pattern=_WEB_ADDRESS)] = ""
    timeout_s: PositiveSeconds = 10.0
    max_results: Annotated[int, msgspec.Meta(ge=1, le=50)] = 8


class StorageSettings(Section, frozen=True):
    """`[storage]`: where state is kept that several workers or machines share.

    `redis_url` is a server of Redis (`redis://...`); empty: each worker has its own state.
    """

    redis_url: str = ""

    def __repr__(self) -> str:
        """Without the URL, which may hold a password."""
        return f"StorageSettings(redis_url={'***' if self.redis_url else ''!r})"


class ConfigurationFile(Section, frozen=True):
    """Everything that a configuration file may hold."""

    server: ServerSettings = ServerSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    upstreams: dict[str, UpstreamSettings] = {}
    models: dict[str, ModelSettings] = {}
    retry: RetrySettings = RetrySettings()
    discovery: DiscoverySettings = DiscoverySettings()
    log: LogSettings = LogSettings()
    keys: dict[str, KeySettings] = {}
    groups: dict[str, GroupSettings] = {}
    embedded: EmbeddedSettings = EmbeddedSettings()
    vault: VaultSettings = VaultSettings()
    responses: ResponsesSettings = ResponsesSettings()
    sealing: SealingSettings = SealingSettings()
    circuit: CircuitSettings = CircuitSettings()
    affinity: AffinitySettings = AffinitySettings()
    concurrency: AdmissionSettings = AdmissionSettings()
    rescue: RescueSettings = RescueSettings()
    single_flight: SingleFlightSettings = SingleFlightSettings()
    limits: LimitSettings = LimitSettings()
    pacing: PacingSettings = PacingSettings()
    cache: CacheSettings = CacheSettings()
    usage: UsageSettings = UsageSettings()
    storage: StorageSettings = StorageSettings()
    search: SearchSettings = SearchSettings()
