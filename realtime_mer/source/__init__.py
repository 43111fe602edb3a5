"""Where frames come from: cameras, files, folders and streams."""
