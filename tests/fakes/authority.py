"""A certificate authority that is made for the run."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, and a server with a certificate of it for `127.0.0.1` and `upstream.test`."""

    ca_file: str
    server: ssl.SSLContext


def made_in(folder: Path) -> Authority:
    """An authority whose files are in `folder`. Skips the test where the `openssl` command is absent."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command makes the certificates, and it is not here")

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
