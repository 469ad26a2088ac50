"""Rule files to concerns."""
