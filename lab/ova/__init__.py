"""A folder of OVAs as a migration source: `package` writes them, `broken` spoils them for tests, `part` offers them."""
