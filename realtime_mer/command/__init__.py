"""What the command line does once the arguments are known; `realtime_mer.cli` is its door."""
