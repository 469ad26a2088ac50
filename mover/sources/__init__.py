"""Where the bytes come from, one module a kind, behind one shape."""
