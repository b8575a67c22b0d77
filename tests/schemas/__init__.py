"""Random schemas: a table with what real databases hang on one, and a spec that fits it."""

from tests.schemas.maker import Schema, Server, schemas

__all__ = ["Schema", "Server", "schemas"]
