"""Malformed input, by the hundred thousand: each case is a success or a refusal in words, never a crash."""
