"""The factory's own database."""
