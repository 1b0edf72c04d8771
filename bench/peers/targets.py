"""All targets: nginx as the practical limit, the gateway in its two ways to be run, and its rivals. A new one is one more row."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from bench.peers.rivals import RIVALS
from bench.peers.target import CLAUDE_TLS, TLS, Place, Target, find_program, pair
from bench.run import write_config

# Ours.


def _our_configuration(place: Place) -> Mapping[str, str]:
    write_config(place.folder, place.mock, place.authority, port=place.port)
    return {}


def _our_command(place: Place) -> Sequence[str]:
    return [sys.executable, "app.py", "--port", str(place.port), "--config", str(place.folder / "config.toml")]


def _our_gunicorn(_place: Place) -> Sequence[str]:
    return [sys.executable, "-m", "gunicorn", "app:app"]


def _our_variables(place: Place) -> Mapping[str, str]:
    return {"OPENAI_COMPAT_CONFIG": str(place.folder / "config.toml"), "OPENAI_COMPAT_WORKERS": "1"}


# nginx.

_NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffering off;
  proxy_request_buffering off;
  proxy_read_timeout 300s;
  upstream plain {{ server 127.0.0.1:{port}; keepalive 1024; keepalive_requests 1000000; }}
  {tls_upstream}
  server {{
    listen 127.0.0.1:{own_port} backlog=4096;
    location = /healthz {{ return 200; }}
    location / {{ proxy_pass http://plain; }}
    {tls_location}
  }}
}}
"""


def _nginx_files(place: Place) -> Mapping[str, str]:
    tls = bool(place.authority)
    location = f"location /tls/ {{ proxy_pass https://tls/; proxy_ssl_trusted_certificate {place.authority}; proxy_ssl_verify on;"
    upstream = f"upstream tls {{ server 127.0.0.1:{place.mock.tls_port}; keepalive 1024; keepalive_requests 1000000; }}"
    text = _NGINX.format(
        user="user root;" if os.geteuid() == 0 else "",
        folder=place.folder,
        port=place.mock.port,
        own_port=place.port,
        tls_upstream=upstream if tls else "",
        tls_location=f"{location} proxy_ssl_name localhost; }}" if tls else "",
    )
    return {"nginx.conf": text}


def _nginx_version() -> str:
    """Such as 1.22.1."""
    words = subprocess.run([find_program("nginx"), "-v"], capture_output=True, text=True, check=True).stderr
    return words.rpartition("/")[2].split()[0]


TARGETS = (
    Target(
        "nginx",
        "nginx, a plain streaming proxy",
        command=lambda place: [find_program("nginx"), "-p", str(place.folder), "-c", str(place.folder / "nginx.conf")],
        serves=frozenset({TLS, CLAUDE_TLS, pair("anthropic", "anthropic"), pair("responses", "responses")}),
        needs=("nginx",),
        files=_nginx_files,
        prefix=lambda scenario: "/tls" if scenario.is_tls else "",
        version=_nginx_version,
        is_gateway=False,
    ),
    Target("ours", "openai-compat, `python app.py`", command=_our_command, files=_our_configuration),
    Target("gunicorn", "openai-compat, gunicorn", command=_our_gunicorn, files=_our_configuration, variables=_our_variables),
    *RIVALS,
)
