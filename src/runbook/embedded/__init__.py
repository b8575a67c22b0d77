"""A PostgreSQL of one's own from a pip wheel: started on demand, stopped by its last user."""

from runbook.embedded.server import Server, embedded_server
from runbook.embedded.wheel import wheel_binaries

__all__ = ["Server", "embedded_server", "wheel_binaries"]
