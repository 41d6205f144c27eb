"""Looking inside a network, whatever its library, and saying what is wrong."""
