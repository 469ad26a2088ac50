"""Frozen values that every layer speaks; no I/O."""
