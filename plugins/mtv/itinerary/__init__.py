"""The step lists of each provider and mode, as data."""
