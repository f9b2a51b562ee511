"""Pages that show results: Markdown, HTML, pictures."""
