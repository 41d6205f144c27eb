"""Where weights start: what the signal and its gradient do from layer to layer."""
