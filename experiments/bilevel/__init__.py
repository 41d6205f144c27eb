"""An optimum inside a loss: its derivative, what that costs, and what is learned through it."""
