"""Source platforms behind one protocol."""
