"""Recognition: the class of a spotted micro-expression."""
