"""Setting up clients: their configuration files, written and merged, and the proof that a client's calls work through the gateway."""
