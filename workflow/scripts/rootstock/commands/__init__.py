"""What the command-line scripts share. No torch."""
