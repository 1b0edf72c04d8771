"""Configuration files that are refused, and the words of the refusal."""

from __future__ import annotations

HASH = "sha256:" + "0" * 64
UP = '[upstreams.a]\nkind = "openai"\n'

# what the file holds -> what the message says after the file's name
REFUSED: list[tuple[str, str]] = [
    # an unknown key, with the name that was probably meant, in every section
    ("[server]\nprot = 1", "unknown key 'server.prot'; did you mean 'port'?"),
    ("[timeouts]\nconect_s = 1", "unknown key 'timeouts.conect_s'; did you mean 'connect_s'?"),
    (UP + 'base_ulr = "x"', "unknown key 'upstreams.a.base_ulr'; did you mean 'base_url'?"),
    ('[models.x]\nroutes = ["a/b"]', "unknown key 'models.x.routes'; did you mean 'route'?"),
    ("[retry]\nattempt = 2", "unknown key 'retry.attempt'; did you mean 'attempts'?"),
    ("[discovery]\nenable = true", "unknown key 'discovery.enable'; did you mean 'enabled'?"),
    ('[log]\nfiel = "x"', "unknown key 'log.fiel'; did you mean 'file'?"),
    ('[keys.me]\nhsh = "x"', "unknown key 'keys.me.hsh'; did you mean 'hash'?"),
    ('[embedded]\nmodle = "x"', "unknown key 'embedded.modle'; did you mean 'model'?"),
    ("[sever]\nport = 1", "unknown key 'sever'; did you mean 'server'?"),
    ("[retry]\nxyz = 1", "unknown key 'retry.xyz'; known keys: attempts"),
    (
        "xyz = 1",
        "unknown key 'xyz'; known keys: server, timeouts, ",
    ),
    ('[sealing]\nsecrets = ["env:NOT_THERE"]', "key 'sealing.secrets': the environment has no NOT_THERE: set it, in .env for example."),
    (
        '[sealing]\nsecrets = ["short"]',
        "key 'sealing.secrets': a secret has fewer than 16 characters: `openssl rand -hex 32` makes a good one.",
    ),
    # a wrong type or a value out of range
    ('[server]\nport = "x"', "key 'server.port': Expected `int`, got `str`."),
    ("[server]\nport = true", "key 'server.port': Expected `int`, got `bool`."),
    ("[server]\nport = 65536", "key 'server.port': Expected `int` <= 65535."),
    ("[server]\nport = -1", "key 'server.port': Expected `int` >= 0."),
    ("[server]\nmax_body_bytes = 0", "key 'server.max_body_bytes': Expected `int` >= 1."),
    ("[server]\nheartbeat_s = 0", "key 'server.heartbeat_s': Expected `float` > 0.0."),
    ("[server]\ndrain_s = inf", "key 'server.drain_s': Expected `float` <= 1000000000.0."),
    ("[server]\nshutdown_s = nan", "key 'server.shutdown_s': Expected `float` >= 0.0."),
    ('[server]\nallowed_hosts = ["a", 5]', "key 'server.allowed_hosts.1': Expected `str`, got `int`."),
    ("server = 5", "key 'server': Expected `object`, got `int`."),
    ("[timeouts]\nsilence_s = -1", "key 'timeouts.silence_s': Expected `float` > 0.0."),
    ("upstreams = [1]", "key 'upstreams': Expected `object`, got `array`."),
    ("[upstreams]\na = 1", "key 'upstreams.a': Expected `object`, got `int`."),
    ('[upstreams.a]\nbase_url = "x"', "key 'upstreams.a': Object missing required field `kind`."),
    (UP + "[upstreams.b]\nkind = 5", "key 'upstreams.b.kind': Expected `str`, got `int`."),
    (UP + "api_keys = [1]", "key 'upstreams.a.api_keys.0': Expected `str`, got `int`."),
    (UP + 'api_keys = "sk-x"', "key 'upstreams.a.api_keys': Expected `array`, got `str`."),
    (UP + "[upstreams.a.timeouts]\nconect_s = 5", "key 'upstreams.a.timeouts': the known keys are connect_s, first_byte_s, silence_s"),
    ('[upstreams."a b"]\nkind = "openai"', "key 'upstreams.a b': a name has letters, digits, '.', '_' and '-' only."),
    ('[upstreams."a/b"]\nkind = "openai"', "key 'upstreams.a/b': a name has letters, digits, '.', '_' and '-' only."),
    ('[models.x]\nroute = ["a"]', "key 'models.x.route': 'a' must be written upstream/model."),
    ('[models.x]\nroute = [{ to = "a" }]', "key 'models.x.route': 'a' must be written upstream/model."),
    ("[models.x]\nroute = [{ weight = 1 }]", "key 'models.x.route.0': Object missing required field `to`."),
    ('[models.x]\nroute = [{ to = "a/b", weight = 0 }]', "key 'models.x.route.0.weight': Expected `int` >= 1."),
    ('[models."x.y"]\nroute = "a/b"', "key 'models.x.y.route': Expected `array`, got `str`."),
    ("[retry]\nattempts = 0", "key 'retry.attempts': Expected `int` >= 1."),
    ("[discovery]\ninterval_s = 0", "key 'discovery.interval_s': Expected `float` > 0.0."),
    ('[log]\nlevel = "loud"', "key 'log.level': Invalid enum value 'loud'."),
    ("[log]\nbackups = -1", "key 'log.backups': Expected `int` >= 0."),
    ('[keys.me]\nhash = "sha256:zz"', "key 'keys.me.hash': Expected the hash that `--new-key` shows."),
    ("[keys.me]", "key 'keys.me': Object missing required field `hash`."),
    ("[embedded]\nparallel = 0", "key 'embedded.parallel': Expected `int` >= 1."),
    # not a configuration at all
    ("port", "is not valid TOML: "),
    ("[server]\nport = 1\nport = 2", "is not valid TOML: "),
    # an address that others can reach, without client keys
    (
        '[server]\nhost = "0.0.0.0"',
        "key 'server.host': 0.0.0.0 can be reached from other machines, so client keys are required. Make one with",
    ),
    *(
        (f'[server]\nhost = "{host}"', f"key 'server.host': '{host}' is neither an IP address nor the name of a host.")
        for host in ("999.1.1.1", "1.2.3.256", "1.2.3.4.5", ":::", "a b", "http://x", "-x", "")
    ),
    ('[server]\nhost = "::"', "key 'server.host': :: can be reached from other machines, so client keys are required."),
    (
        '[server]\nallowed_hosts = ["localhost", "127.0.0.2", "a.localhost", "gateway.lan"]',
        "key 'server.allowed_hosts': behind 'gateway.lan' all clients of a proxy look local, so client keys are required. Make",
    ),
    ('[server]\nhost = "192.168.1.5"', "key 'server.host': 192.168.1.5 can be reached from other machines"),
    # keys that no header can hold
    (UP + 'api_keys = ["sk x"]', "key 'upstreams.a.api_keys': a key holds characters that can't be sent in a header: copy it again."),
    (
        UP + 'api_keys = ["sk\\r\\nx: y"]',
        "key 'upstreams.a.api_keys': a key holds characters that can't be sent in a header: copy it again.",
    ),
    (UP + 'api_keys = ["sk-\\u2026"]', "key 'upstreams.a.api_keys': a key holds characters that can't be sent in a header: copy it again."),
    (UP + 'api_keys = ["env:ODD"]', "key 'upstreams.a.api_keys': a key holds characters that can't be sent in a header: copy it again."),
    (UP + 'api_keys = ["sk-1", ""]', "key 'upstreams.a.api_keys': a key is empty: write one, or take it out."),
    # headers that can't be sent
    (UP + 'headers = { x-a = "\\u6f22" }', "key 'upstreams.a.headers': 'x-a': holds characters that can't be sent in a header."),
    (UP + 'headers = { x-a = "1\\r\\nx-b: 2" }', "key 'upstreams.a.headers': 'x-a': holds characters that can't be sent in a header."),
    (UP + 'headers = { x-a = "env:TWO_LINES" }', "key 'upstreams.a.headers': 'x-a': holds characters that can't be sent in a header."),
    (UP + 'headers = { "x a" = "1" }', "key 'upstreams.a.headers': 'x a': holds characters that can't be sent in a header."),
    (UP + 'headers = { "x\\n" = "1" }', "key 'upstreams.a.headers': 'x\\n': holds characters that can't be sent in a header."),
    # variables that the environment does not have, where nothing else can be sent
    (UP + 'api_keys = ["env:NOBODY"]', "key 'upstreams.a.api_keys': the environment has no NOBODY: set it, in .env for example."),
    (
        UP + 'api_keys = ["env:NOBODY", "env:EMPTY"]',
        "key 'upstreams.a.api_keys': the environment has no NOBODY and no EMPTY: set it, in .env for example.",
    ),
    (
        UP + 'headers = { x-a = "env:NOBODY" }',
        "key 'upstreams.a.headers': x-a: the environment has no NOBODY: set it, in .env for example.",
    ),
    (UP + 'headers = { x-a = "env:EMPTY" }', "key 'upstreams.a.headers': x-a: the environment has no EMPTY: set it, in .env for example."),
    # facts that don't fit
    ("[models.x.facts]\ncontxt = 5", "unknown key 'models.x.facts.contxt'; did you mean 'context'?"),
    ("[models.x.facts.price]\ninputs = 5", "unknown key 'models.x.facts.price.inputs'; did you mean 'input'?"),
    ("[models.x.facts.ids]\nopenai = 5", "key 'models.x.facts.ids.openai': Expected `str`, got `int`."),
    ('[models.x]\nfacts = { context = "much" }', "key 'models.x.facts.context': Expected `int`, got `str`."),
    ('[models.x]\nfacts = { like = "nobody" }', "key 'models.x.facts.like': 'nobody' is not a family of the catalog (claude-"),
    ("[models.x]\nfacts = { like = 5 }", "key 'models.x.facts.like': 5 is not a family of the catalog (claude-"),
]

# a whole file, one key of every section and its place in the settings
COMPLETE = f"""
[server]
host = "0.0.0.0"
port = 1234
allowed_hosts = ["gateway.lan"]
allowed_origins = ["http://gateway.lan"]
heartbeat_s = 5

[timeouts]
connect_s = 1.5
silence_s = 60

[upstreams.work]
kind = "openai"
base_url = "https://work.example/v1"
api_keys = ["sk-one", "env:WORK_KEYS"]
headers = {{ x-team = "blue" }}
models = ["big"]
timeouts = {{ silence_s = 9 }}

[models."my-model"]
route = ["work/big", {{ to = "work/small", weight = 3, priority = 7 }}]
facts = {{ context = 5000 }}

[retry]
attempts = 2

[discovery]
enabled = false

[log]
file = "elsewhere/calls.log"
level = "debug"
backups = 0

[keys.ada]
hash = "{HASH}"

[embedded]
model = "tiny.gguf"
"""
