"""How weights move: SGD, momentum and Adam on networks and on surfaces that show why."""
