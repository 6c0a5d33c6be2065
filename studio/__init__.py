"""The studio: a web page on the gateway's API, for people who want to see their pairs and runs."""
