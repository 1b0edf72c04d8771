"""The configuration: its sections, the settings made of them, and the catalogue of models."""
