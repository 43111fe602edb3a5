"""What shows or keeps results."""
