"""The public API: images, prompt sets, jobs, pairs, events, and the services behind one address."""
