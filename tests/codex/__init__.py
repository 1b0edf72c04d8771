"""The real Codex, and models that are scripted for it."""
