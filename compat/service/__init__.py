"""`restart_services.py`: commands, the watcher, its decisions and state."""
