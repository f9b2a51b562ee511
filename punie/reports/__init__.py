"""Documents a person reads: Markdown, HTML."""
