"""The field's data sets as their owners give them out: folders of frames and Excel tables."""
