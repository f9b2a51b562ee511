"""Many runs collated: tables over their axes, and what the scores decide in plain language."""
