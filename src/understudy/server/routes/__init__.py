"""The handlers, a module a family of routes; each offers `ROUTES`."""
