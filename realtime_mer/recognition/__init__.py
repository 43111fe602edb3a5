"""Which class a spotted micro-expression belongs to."""
