"""Commands for those who run Rootsweep. Never deployed."""
