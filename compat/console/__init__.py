"""The console: pages for people, on what the gateway does, what it costs, and why something failed. It reads, and changes nothing."""
