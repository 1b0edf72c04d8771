"""Answers of the Responses API that clients go on from, read again and cancel: in SQLite or Redis, each client's its own."""
