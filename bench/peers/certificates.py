"""A certificate authority that lives for one run, and the mock upstream's certificate by it, made by `openssl`.

The authority is trusted by each gateway through a setting of its own; nothing of the machine's trust is changed.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_DAYS = "2"
_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
_EXTENSIONS = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM: the authority's certificate, the server's, and the server's key."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates | None:
    """Certificates in `folder` for 127.0.0.1; `None` on a machine without openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority_key, request, extensions = folder / "ca.key", folder / "server.csr", folder / "server.ext"
    extensions.write_text(_EXTENSIONS)

    def run(*arguments: str | Path) -> None:
        subprocess.run([openssl, *map(str, arguments)], check=True, capture_output=True, timeout=60)

    run("req", "-x509", *_CURVE, "-days", _DAYS, "-subj", "/CN=bench authority", "-keyout", authority_key, "-out", made.authority)
    run("req", *_CURVE, "-subj", "/CN=127.0.0.1", "-keyout", made.key, "-out", request)
    signing: list[str | Path] = ["-CA", made.authority, "-CAkey", authority_key, "-CAcreateserial", "-days", _DAYS, "-extfile", extensions]
    run("x509", "-req", "-in", request, *signing, "-out", made.certificate)
    return made
