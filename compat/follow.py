"""The gateway follows its configuration: a change of `config.toml` or `.env` takes effect while it serves.

    live = Live(gateway, place)     # the WSGI application that servers are given
    live.start()
    live.follow(admit).start()          # looks at the files twice a second

What has changed is read, checked and put together whole, beside what runs; then one assignment lets new requests go to it. Calls under way
keep the gateway that they began with. State is handed on: the factory takes over every collaborator whose own settings are the same. What
can't be used is refused with its reason, in the log and in `/healthz`, and what runs goes on.

A file is read when its stamp has changed and stood still from one look to the next: an editor may empty it first. A file that is gone
counts as a fault, not as an empty one, for without it keys would be missing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import msgspec

from compat.calls.gateway import Gateway
from compat.config.sections import ConfigurationFile
from compat.config.settings import Settings, SettingsError
from compat.dot_env import env_warnings
from compat.endpoints.front import Environ, Front, StartResponse
from compat.factory import build_gateway, change_background, create_app, look_for_pages, sample_metrics, start_background, stop_background
from compat.service.configuration import Sources, find_sources, settings_of
from compat.storage.whole_file import replace_file, stamp_of

LOOK_S = 0.5

Build = Callable[[Settings, Mapping[str, str], Gateway], Gateway]
"""Settings, the environment and the gateway that runs -> the gateway that takes its place. Raises `SettingsError`."""
Admit = Callable[[Gateway], None]
Stamps = Mapping[Path, tuple[int, ...] | None]


def stamps_of(paths: Iterable[Path]) -> Stamps:
    """The stamp of each file, `None` for one that is not there."""
    return {path: stamp_of(path) for path in paths}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the configuration is, and what goes before it. `outer` is the environment; `copies` are files that are to hold what counts, of
    the configuration and of `.env`, because a worker which is started again reads those.

    Make it before the configuration is read: `began` are the stamps of then, and what is written from then on is followed.
    """

    base_dir: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    config: str | None = None
    outer: Mapping[str, str] | None = None
    copies: tuple[Path, Path] | None = None
    began: Stamps = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "began", stamps_of(self.files()))

    def sources(self) -> Sources:
        """The files as they are now. Raises `SettingsError`."""
        return find_sources(self.base_dir, self.config, self.outer)

    def config_file(self) -> Path | None:
        """The configuration's file; `None` where there is none, or `.env`, which may name it, can't be read."""
        with contextlib.suppress(SettingsError):
            return self.sources().config
        return None

    def files(self) -> tuple[Path, Path]:
        """The configuration and `.env`, whether they are there or not."""
        environment = os.environ if self.outer is None else self.outer
        env_file = Path(environment.get("OPENAI_COMPAT_ENV_FILE") or self.base_dir / ".env")
        return self.config_file() or self.base_dir / "config.toml", env_file


class Live:
    """The WSGI application over the gateway that counts now. Mutable: that gateway and its application, which change together.

    `place` is where its configuration is, `build` makes the next gateway.
    """

    def __init__(self, gateway: Gateway, place: Place, build: Build | None = None) -> None:
        self._current: tuple[Gateway, Front] = (gateway, create_app(gateway))
        self._place = place
        self._build = build or (lambda settings, environment, before: build_gateway(settings, environment, place.base_dir, before=before))

    @property
    def gateway(self) -> Gateway:
        """The gateway that new requests go to."""
        return self._current[0]

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request, to its end by the gateway of now."""
        return self._current[1](environ, start_response)

    def swap(self, gateway: Gateway) -> None:
        """Let new requests go to `gateway`, and change what runs in the background."""
        before, app = self.gateway, create_app(gateway)
        self._current = (gateway, app)
        change_background(before, gateway)

    def start(self) -> None:
        """Begin what runs in the background."""
        start_background(self.gateway)
        for work in (sample_metrics, look_for_pages):
            gevent.spawn(work, lambda: self.gateway)

    def follow(self, admit: Admit) -> Follower:
        """What lets it follow its configuration from now on; `admit` raises `SettingsError` for a gateway that must not serve here."""
        return Follower(self, self._place, self._build, admit)

    def stop(self) -> None:
        """End what runs in the background."""
        stop_background(self.gateway)


class Follower:
    """Looks at the files, and lets `live` follow. Mutable: what is watched, the stamps that were read, and those of the last look.

    Of several workers with one log, the one that reports what concerns them all reports this.
    """

    def __init__(self, live: Live, place: Place, build: Build, admit: Admit) -> None:
        self._live = live
        self._place = place
        self._build = build
        self._admit = admit
        self._watched = place.files()
        has_changed = stamps_of(self._watched) != place.began
        self._written = None if has_changed else find_sources(place.base_dir, place.config).written  # `None`: it can't be known any more
        self._seen: Stamps = {}
        self._read: Stamps = {} if place.copies else place.began  # else what was read is a copy

    def start(self) -> None:
        """Look again and again, as long as the process lives."""
        gevent.spawn(self._run)

    def look(self) -> None:
        """One look: take over what has changed since the last one that took anything over, if it stands still."""
        stamps = stamps_of(self._watched)
        is_still, self._seen = stamps == self._seen, stamps
        if stamps == self._read or not is_still:
            return
        lost = [path for path, stamp in stamps.items() if stamp is None and self._read.get(path) is not None]
        following = self._live.gateway.following
        try:
            if lost:
                raise SettingsError(f"{lost[0]}: is gone; what it said counts until the next start.")
            self._follow()
        except (SettingsError, msgspec.ValidationError) as error:
            is_news, following.fault = following.fault != str(error), str(error)
            if is_news and self._live.gateway.doctor.may_tell():
                self._live.gateway.log.event("configuration.failed", {"fault": following.fault})
        else:
            following.fault = ""
        self._read = {**stamps, **dict.fromkeys(lost, ())}  # what is lost is missed until it is there again

    def _follow(self) -> None:
        running = self._live.gateway
        sources = self._place.sources()
        self._watched = self._place.files()
        settings = settings_of(sources, self._place.base_dir, self._place.overrides, running.settings)
        if settings != running.settings or sources.written != self._written:
            gateway = self._build(settings, sources.environment, running)
            self._admit(gateway)
            self._live.swap(gateway)
            gateway.following.changes += 1
            gateway.following.changed_s = gateway.clock.now()
            if gateway.doctor.may_tell():
                running.log.event("configuration.changed", _news(running.settings, settings))
                for warning in env_warnings(sources) if sources.written != self._written else ():
                    running.log.write("env.ignored", {"detail": warning}, "warning")
            self._written = sources.written
        self._keep(sources)

    def _keep(self, sources: Sources) -> None:
        """Let the copies be what counts. A disk that is full must not undo what has taken effect."""
        for copy, path in zip(self._place.copies or (), (sources.config, sources.env_file), strict=False):
            with contextlib.suppress(OSError):
                replace_file(copy, path.read_bytes() if path is not None and path.exists() else b"")

    def _run(self) -> None:
        while True:
            gevent.sleep(LOOK_S)
            self.look()


def _news(before: Settings, after: Settings) -> dict[str, Any]:
    """What is to be said of a change: the sections, or that `.env` has changed, and the keys that wait for the next start."""
    changed = [name for name in ConfigurationFile.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    return {"source": after.source, "changed": changed or ["environment"], "postponed": list(after.postponed)}
