"""The embedded model: fetched, started, watched, ended with the gateway."""
