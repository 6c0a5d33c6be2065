"""One editing instruction carried out on one image."""
