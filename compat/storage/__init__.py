"""Redis, SQLite, files and work in the background."""
