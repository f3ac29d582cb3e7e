"""A model as a service: a page to drop photos on, and an HTTP API."""
