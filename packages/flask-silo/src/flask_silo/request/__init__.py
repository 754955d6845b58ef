"""A request and its session: from the id that it carries to the commit of its changes."""
