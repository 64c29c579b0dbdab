"""What Rootsweep knows. Modules here read no event and no environment."""
