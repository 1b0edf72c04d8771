"""OpenAI's Responses API: the upstream's half."""
