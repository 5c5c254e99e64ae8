"""Pictures and files to look at."""
