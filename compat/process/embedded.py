"""Placeholder until the engine's author commits his."""
from dataclasses import dataclass
@dataclass(frozen=True)
class Endpoint:
    base_url: str
    api_key: str
    model: str
@dataclass(frozen=True)
class EngineStatus:
    state: str = "stopped"
    detail: str = ""
    model: str = ""
class EmbeddedEngine:
    def __init__(self, settings, on_event): pass
    def start(self): pass
    def stop(self): pass
    def status(self): return EngineStatus()
    def endpoint(self, timeout_s): return None
