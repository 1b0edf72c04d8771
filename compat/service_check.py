"""The program that looks at a configuration before anybody runs with it: `python -m compat.service_check BASE COPY`.

It copies the configuration file and `.env` into the folder COPY, puts the whole gateway together from the copies, as a worker will, and
prints one JSON line: what the watcher has to know, or `{"fault": "one line for the person who wrote it"}` with exit code 1.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import msgspec

from compat.config.settings import SettingsError, load_settings
from compat.dot_env import env_warnings
from compat.factory import build_gateway
from compat.routing.own_address import OwnAddress
from compat.service.configuration import CONFIG, ENV_FILE, find_sources, read_configuration, worker_count
from compat.service.state import Facts


def main(base_dir: Path, folder: Path) -> int:
    """See the module; the exit code."""
    try:
        report = msgspec.to_builtins(examine(base_dir, folder))
    except (SettingsError, msgspec.ValidationError) as error:
        report = {"fault": str(error)}
    except OSError as error:
        report = {"fault": f"{error.filename or folder}: {error.strerror}."}
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if "fault" in report else 0


def examine(base_dir: Path, folder: Path) -> Facts:
    """What the watcher has to know. Raises `SettingsError`, `msgspec.ValidationError`, `OSError`."""
    sources = find_sources(base_dir)
    if sources.config is not None and not sources.config.is_file():
        load_settings(sources.config, sources.environment)  # says what is wrong with it
    copies = keep_copies(folder, sources.config, sources.env_file)
    os.environ.update(copies)
    try:
        settings, environment = read_configuration(base_dir, {})
        gateway = build_gateway(settings, environment, base_dir)
        own = OwnAddress([(settings.server.host, settings.server.port)])
        if faults := own.faults(gateway.router.upstreams.values(), settings):
            raise SettingsError(faults[0])
        workers = worker_count(settings, environment)
    except (SettingsError, msgspec.ValidationError) as error:
        written = str(sources.config or "the defaults")
        raise SettingsError(str(error).replace(copies["OPENAI_COMPAT_CONFIG"], written)) from error
    server = settings.server
    return Facts(
        shutdown_s=server.shutdown_s,
        workers=workers,
        host=server.host,
        port=server.port,
        log_file=str(base_dir / settings.log.file),
        warnings=tuple(env_warnings(sources)),
    )


def keep_copies(folder: Path, config: Path | None, env_file: Path) -> dict[str, str]:
    """Copy the files, which may hold keys, and return the variables that lead to the copies; what is not there is an empty copy."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    variables = {}
    for variable, source, name in (("OPENAI_COMPAT_CONFIG", config, CONFIG), ("OPENAI_COMPAT_ENV_FILE", env_file, ENV_FILE)):
        copy = folder / name
        copy.touch(mode=0o600)
        if source is not None and source.is_file():
            copy.write_bytes(source.read_bytes())
        variables[variable] = str(copy)
    return variables


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
