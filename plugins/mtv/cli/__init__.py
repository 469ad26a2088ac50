"""The mtv command."""
