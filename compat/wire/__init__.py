"""The vocabulary of both protocols: types, the SSE codec, the request envelope. No I/O, no clock, no randomness."""
