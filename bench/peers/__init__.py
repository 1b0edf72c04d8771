"""The gateway beside its peers, in one interleaved run: `python -m bench.peers`. See docs/performance.md."""
