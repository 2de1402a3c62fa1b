"""The API server: HTTPS in, the store out."""

from api.server.app import Settings, make_app, serve

__all__ = ["Settings", "make_app", "serve"]
