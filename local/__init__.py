"""AWS on a laptop: the embedded AWS and its pretend organization. Never shipped."""
