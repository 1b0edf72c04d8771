"""No proxy of the machine's, and a certificate authority that is made for the run."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in {"REQUEST_METHOD", "NETRC"}:
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, and a server with a certificate of it for `127.0.0.1` and `upstream.test`."""

    ca_file: str
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command makes the certificates, and it is not here")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:upstream.test\n")
    (folder / "ca.ext").write_text("[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=critical,CA:true\nkeyUsage=keyCertSign\n")
    names = ("-config", "ca.ext", "-extensions", "ca")
    openssl("req", "-x509", *new_key, *names, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority of a test")
    openssl("req", "-new", *new_key, "-config", "ca.ext", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=upstream.test")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "server.ext")
    openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem", "-days", "2")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(folder / "server.pem"), Path(folder / "server.key"))
    return Authority(str(folder / "ca.pem"), context)
