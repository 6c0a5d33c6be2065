"""Where pairs come from: a finished job, a job that still runs, a folder in Pick-a-Pic's layout."""
