"""Alembic's environment and versions; run by `mtv.store.migrate`, never by hand."""
