"""A source analysed from its first frame to its last, in threads of its own."""
