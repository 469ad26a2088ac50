"""Damaged input for everything that reads bytes from outside: it is read, or refused with a reason, and never hangs."""
