"""What Rootsweep knows. Modules here never read an event or the environment and never make a client."""
