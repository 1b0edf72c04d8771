"""Benchmark of the gateway against a direct call: `python -m bench.run`. See docs/performance.md."""
