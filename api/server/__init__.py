"""The API server: HTTPS in, the store out."""

from api.server.app import Settings, make_app
from api.server.listener import serve

__all__ = ["Settings", "make_app", "serve"]
