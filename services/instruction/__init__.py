"""A critique as editing instructions."""
