"""Reading and compiling plan files."""
