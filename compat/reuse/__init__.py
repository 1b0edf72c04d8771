"""Answers that serve more than one call."""
