"""Leaves that know nothing of punie: files, JSON lines, errors, interrupts, processes, progress."""
