"""openai-compat: a self-hosted OpenAI-compatible gateway for coding agents."""

__version__ = "0.1.0"
