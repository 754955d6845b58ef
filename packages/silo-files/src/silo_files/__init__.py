"""Files that belong to a session: saved whole or not at all, deleted together."""
