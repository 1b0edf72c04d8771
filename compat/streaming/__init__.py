"""How a stream flows to its client."""
