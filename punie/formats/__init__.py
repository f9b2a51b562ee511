"""How tool calls are written and read: one file a format."""
