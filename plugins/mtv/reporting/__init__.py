"""Evidence to reports."""
