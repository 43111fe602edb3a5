"""What many videos gave: a folder of results, and what is made of it."""
