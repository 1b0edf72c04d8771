"""Who calls, what they may use, and what they used."""
