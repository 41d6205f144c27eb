"""How to differentiate an inner solution: one mode a file, on the base that is in `mode`."""
