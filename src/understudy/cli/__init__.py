"""The command `understudy`: one module for each subcommand, and what they share; it decides nothing about engines."""
