"""`python app.py setup CLIENT`: write or print the client's configuration, then prove that it works.

A file that exists is changed only where it can be merged without loss (JSON, Codex' TOML); a copy of it is kept beside it, and the
difference is shown. Any other file that exists is left alone, and what to add is printed. What was changed is recorded for `--undo`.
"""

from __future__ import annotations

import datetime
import difflib
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from compat.protocols.base import ClientApi
from compat.setup.clients import ClientSetup, client_setup, clients
from compat.setup.files import ClientFile
from compat.setup.offers import main_model, read_offers
from compat.setup.proof import DIALECTS, ProofError, prove
from compat.setup.undo import remember
from compat.storage.whole_file import keep_mode, replace_file

ANY_KEY = "sk-any"
_LIST_TIMEOUT_S = 10
_STEP_TIMEOUT_S = 300

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SetupOrder:
    """What was asked for; `command` is how the program was called.

    `rows` gives the model list of the local configuration, for a gateway that doesn't run yet; `record` is the file of what set-up changed.
    """

    client: str
    command: str
    base_url: str
    key: str
    prints_only: bool
    proves: bool
    home: Path
    folder: Path
    record: Path
    environment: Mapping[str, str]
    now: datetime.datetime
    rows: Callable[[], Rows]


def run_setup(order: SetupOrder, say: Callable[[str], None]) -> int:
    """Carry out `order`. Returns the exit code: 0 when it is set up and proved to work (or printed), 1 when something failed."""
    try:
        rows, is_running = model_rows(order)
    except ProofError as error:
        say(f"{error}\n{error.hint}".rstrip())
        return 1
    offers = read_offers(rows)
    setup = client_setup(order.client, offers, order.base_url, order.key, order.command)
    if order.prints_only:
        _print(setup, say)
        return 0
    for file in setup.files:
        try:
            _write(order, file, say)
        except (OSError, ValueError) as error:  # JsoncError and TomlError among them
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            say(f"Not changed: {_path(order, file)}: {why}. Correct it, or add by hand what --print shows.")
            return 1
    for text in setup.steps["en"] if not any(file.merge for file in setup.files) else setup.steps["en"][1:]:
        say(text)
    for command in setup.commands if not setup.files else ():
        say(f"  {command}")
    if not order.proves:
        return 0
    say("")
    if not is_running:
        say(f"Not tested yet: no gateway answers at {order.base_url}. Start it with `{order.command}`, and run this command again.")
        return 1
    return _prove(order, main_model(offers), say)


def model_rows(order: SetupOrder) -> tuple[Rows, bool]:
    """The model list, and whether a running gateway gave it. `ProofError` when one answers, but not with a list."""
    try:
        answer = _session().get(f"{order.base_url}/models", headers=_headers(order.key), timeout=_LIST_TIMEOUT_S)
    except requests.RequestException:
        return order.rows(), False
    with answer:
        if answer.status_code == 401:
            raise ProofError("The gateway refuses the key.", "Give one of its client keys: --key sk-compat-...")
        try:
            rows = answer.json()["data"] if answer.status_code == 200 else None
        except (ValueError, KeyError, TypeError):
            rows = None
        if not isinstance(rows, list):
            raise ProofError(
                f"The server at {order.base_url} is not an openai-compat gateway (status {answer.status_code}).", "Check --url."
            )
    return [row for row in rows if isinstance(row, dict)], True


def gateway_url(url: str) -> str:
    """`url` as clients want it, ending with one `/v1`, whatever of it was given. `ValueError` when it is invalid."""
    is_whole = "://" in url
    url = url if is_whole else f"http://{url}"
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"} or not _is_host(parts, is_whole):
        raise ValueError(f"{url!r} is not the address of a gateway: give one like http://127.0.0.1:28889")
    path = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}/v1"


def _is_host(parts: urllib.parse.SplitResult, is_whole: bool) -> bool:
    """Whether a URL has a host; a single word without a scheme or a port is a mistake rather than a name."""
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    is_name = re.fullmatch(r"[A-Za-z0-9._-]+|[0-9a-f:.]+(%\w+)?", host) is not None
    return is_name and (is_whole or port is not None or host == "localhost" or "." in host or ":" in host)


def sender(base_url: str, key: str, api: ClientApi) -> Callable[[Mapping[str, Any]], Iterator[bytes]]:
    """What sends the requests of a proof to a gateway."""
    path = DIALECTS[api].path

    def send(body: Mapping[str, Any]) -> Iterator[bytes]:
        try:
            with _session().post(f"{base_url}{path}", json=body, headers=_headers(key), stream=True, timeout=_STEP_TIMEOUT_S) as answer:
                if answer.status_code != 200:
                    raise ProofError(
                        f"the gateway answered with status {answer.status_code}: {_error_words(answer)}", _HINTS.get(answer.status_code, "")
                    )
                media_type = answer.headers.get("content-type", "")
                if not media_type.startswith("text/event-stream"):
                    raise ProofError(f"the answer is not a stream, but {media_type}")
                yield from answer.iter_content(chunk_size=None)
        except requests.RequestException as error:
            raise ProofError(f"the connection to the gateway broke: {type(error).__name__}", "See the gateway's log.") from error

    return send


_HINTS = {
    401: "An upstream refused its key, or the gateway needs one of its client keys (--key).",
    404: "The model is not offered: see GET /v1/models.",
    503: "No upstream can serve the model at the moment: `--check` shows why.",
}


def _prove(order: SetupOrder, model: str, say: Callable[[str], None]) -> int:
    api = clients()[order.client].api
    say(f"Testing it: one agent step with '{model}' through {order.base_url} ...")
    proof = prove(sender(order.base_url, order.key, api), model, api)
    for line in proof.lines():
        say(line)
    say("It works." if proof.is_good else "It does not work yet.")
    return 0 if proof.is_good else 1


def _print(setup: ClientSetup, say: Callable[[str], None]) -> None:
    """Nothing but the configuration where there is one file, so that it can be redirected into it."""
    for file in setup.files:
        if len(setup.files) > 1:
            say(f"# {file.path}")
        say(file.text.rstrip("\n"))
    if not setup.files:
        for command in setup.commands:
            say(command)


def _write(order: SetupOrder, file: ClientFile, say: Callable[[str], None]) -> None:
    path = _path(order, file)
    existing = _read(path)
    copy = path.with_name(f"{path.name}.backup-{order.now:%Y%m%d-%H%M%S}")
    if existing is None:
        remember(order.record, order.client, path, None, file.text, (), copy, file.values)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, file.text.encode("utf-8"))  # it may hold a key: the user's alone
        say(f"Written: {path}")
        return
    text = file.merge(existing) if file.merge is not None else file.text
    if text == existing:
        say(f"Unchanged: {path}")
        return
    if file.merge is None:
        say(f"Not changed, because it exists: {path}\nAdd this to it:\n\n{file.text}")
        return
    kept = remember(order.record, order.client, path, existing, text, file.ours, copy, file.values)
    if kept == copy:
        shutil.copy2(path, copy)
    replace_file(path, text.encode("utf-8"), keep_mode(path))
    before, after = existing.splitlines(keepends=True), text.splitlines(keepends=True)
    diff = difflib.unified_diff(before, after, f"{path} (before)", str(path), n=1)
    say("".join(line if line.endswith("\n") else line + "\n" for line in diff).rstrip("\n"))
    say(f"Changed: {path}" + (f"\nThe file as it was: {kept}" if kept is not None else ""))


def _path(order: SetupOrder, file: ClientFile) -> Path:
    if file.place is not None:
        return file.place(order.environment, order.home).resolve()
    return order.home / file.path.removeprefix("~/") if file.path.startswith("~/") else order.folder / file.path


def _read(path: Path) -> str | None:
    """The file's text with its line ends as they are; `None` when there is none."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise OSError("it is not UTF-8") from error


def _session() -> requests.Session:
    """No proxy, no `.netrc`: a gateway is local, and its key goes to it alone."""
    session = requests.Session()
    session.trust_env = False
    return session


def _headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def _error_words(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
