"""General helpers that know nothing of punie: files, JSON Lines, errors, interrupts, processes, progress."""
