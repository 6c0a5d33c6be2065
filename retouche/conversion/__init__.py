"""Published checkpoints in the layout that today's libraries load; no tensor is decoded, no torch needed."""
