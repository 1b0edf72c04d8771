"""Thinking that is kept for later turns."""
