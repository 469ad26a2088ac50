"""Talks to the source while bytes move: sessions, leases, tickets."""
