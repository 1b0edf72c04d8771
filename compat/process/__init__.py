"""Processes: the server of one process, and the embedded engine as a supervised child."""
