"""Source inventory as tables and history."""
