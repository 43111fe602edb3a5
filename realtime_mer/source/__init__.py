"""Sources: cameras, files, folders and streams become frames with times."""
