"""The recipe: `python -m shapes.train all` makes every shapes model anew, on a CPU or a GPU."""
