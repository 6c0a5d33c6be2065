"""What an image shows and where it departs from its prompt."""
