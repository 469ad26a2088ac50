"""Where the bytes go: a file or a block device, behind one shape."""
