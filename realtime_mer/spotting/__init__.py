"""How a face moves, and where in time a micro-expression lies."""
