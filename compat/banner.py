"""What `python app.py` says when it starts: where it is, where each name goes, what to paste into Kilo Code."""

from __future__ import annotations

from compat import __version__
from compat.calls.gateway import Gateway
from compat.endpoints.health import named_routes
from compat.engine.presets import PRESETS


def banner(gateway: Gateway, port: int) -> str:
    """The text for the terminal."""
    server = gateway.settings.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    base_url = f"http://{host}:{port}/v1"
    routes = named_routes(gateway)
    width = max(map(len, routes))
    are_required = gateway.keys.are_required
    key, shown = ("one of your client keys", "YOUR-CLIENT-KEY") if are_required else ("any value", "sk-dummy-key")
    awaited = gateway.discovery.awaited()
    provisional = f" (provisional: {', '.join(awaited)} has not listed its models yet; /healthz shows the routes once it has)"
    lines = [
        f"openai-compat {__version__}",
        f"  URL      {base_url}",
        f"  API key  {key}",
        f"  Models{provisional if awaited else ''}",
        *(f"    {name:<{width}}  ->  {words}" for name, words in routes.items()),
    ]
    if not gateway.router.upstreams:
        lines += [
            "  No upstream is configured: a small embedded model answers. It is a demonstration and a fallback, not fit for coding agents.",
            *_embedded_lines(gateway),
            "  For real work set ANTHROPIC_API_KEY, OPENAI_API_KEY, OPENROUTER_API_KEY or another key (see .env.example).",
        ]
    lines += [f"  {finding.severity.capitalize()}  {finding.message}" for finding in gateway.doctor.diagnosis.findings]
    lines += [
        f"  Console  http://{host}:{port}     what runs, what it costs, why it failed; try a call",
        f"  Set up   http://{host}:{port}/setup, or {gateway.settings.command} setup kilo",
        "  Kilo Code (Settings, Providers, OpenAI Compatible)",
        f'    {{"apiUrl": "{base_url}/chat/completions", "apiKey": "{shown}", "model": "claude-4-sonnet"}}',
        f"  Health   http://{host}:{port}/healthz     Log  {gateway.settings.log.file}     Stop  Ctrl-C",
    ]
    return "\n".join(lines)


def _embedded_lines(gateway: Gateway) -> list[str]:
    """Which embedded model answers, what is fetched besides, and how to have it otherwise."""
    if gateway.engine is None:
        return []
    status = gateway.engine.status()
    if status.better:
        size = (
            f"{PRESETS[status.better].size_bytes / 1e9:.1f} GB, {PRESETS[status.better].licence}" if status.better in PRESETS else "better"
        )
        return [
            f"  {status.model} answers first; {status.better} ({size}) is fetched meanwhile and takes its place.",
            '  [embedded] model = "small" fetches no more than the small one, enabled = false nothing at all.',
        ]
    return [
        f"  It is {status.model}." + (f" {status.better_detail[:1].upper()}{status.better_detail[1:]}." if status.better_detail else "")
    ]
