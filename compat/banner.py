"""What `python app.py` says when it starts: where it is, where each name goes, what to paste into Kilo Code."""

from __future__ import annotations

from compat import __version__
from compat.calls.gateway import Gateway
from compat.endpoints.health import named_routes
from compat.engine.presets import PRESETS
from compat.service.listener import local_url


def banner(gateway: Gateway, port: int) -> str:
    """The text for the terminal."""
    root = local_url(gateway.settings.server.host, port)
    routes = named_routes(gateway)
    width = max(map(len, routes))
    are_required = gateway.keys.are_required
    key, shown = ("one of your client keys", "YOUR-CLIENT-KEY") if are_required else ("any value", "sk-dummy-key")
    awaited = gateway.discovery.awaited()
    provisional = f" (provisional: {', '.join(awaited)} has not listed its models yet; /healthz shows the routes once it has)"
    lines = [
        f"openai-compat {__version__}",
        f"  URL      {root}/v1",
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
        f"  Console  {root}     what runs, what it costs, why it failed; try a call",
        f"  Set up   {root}/setup, or {gateway.settings.command} setup kilo",
        "  Kilo Code (Settings, Providers, OpenAI Compatible)",
        f'    {{"apiUrl": "{root}/v1/chat/completions", "apiKey": "{shown}", "model": "claude-4-sonnet"}}',
        f"  Health   {root}/healthz     Log  {gateway.settings.log.file}     Stop  Ctrl-C",
    ]
    return "\n".join(lines)


def _embedded_lines(gateway: Gateway) -> list[str]:
    """Which embedded model answers, what is fetched besides, and how to have it otherwise."""
    if gateway.engine is None:
        return []
    status = gateway.engine.status()
    if status.better:
        preset = PRESETS.get(status.better)
        size = f"{preset.size_bytes / 1e9:.1f} GB, {preset.licence}" if preset is not None else "better"
        return [
            f"  {status.model} answers first; {status.better} ({size}) is fetched meanwhile and takes its place.",
            '  [embedded] model = "small" fetches no more than the small one, enabled = false nothing at all.',
        ]
    why = status.better_detail
    return [f"  It is {status.model}." + (f" {why[:1].upper()}{why[1:]}." if why else "")]
