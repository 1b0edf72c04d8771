"""Wire APIs, each in two halves: what a client speaks, and what an upstream speaks. Between them stand neutral events."""
