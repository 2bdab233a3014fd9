"""Models, what goes in and comes out of them, checkpoints, and how they are taught."""
