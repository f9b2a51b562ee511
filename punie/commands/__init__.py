"""The subcommands of the front door, one file each."""
