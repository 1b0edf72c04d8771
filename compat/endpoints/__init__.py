"""HTTP in: the only place with Flask. Each module makes a blueprint from the gateway; `compat.factory` attaches them in one place."""
