"""OpenAI's chat protocol."""
