"""Who answers, and as whom we are connected."""

from dataclasses import dataclass

OLDEST = 150_000
"""The oldest PostgreSQL that is supported, as `server_version_num`."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """Who answers, and as whom we are connected. Nothing in it is secret."""

    version_number: int
    """As `server_version_num`: 150018 is 15.18."""
    server_version: str
    name: str
    user: str
    host: str
    port: int | None
    system_identifier: str | None
    """None where the role may not read it."""
    is_superuser: bool
    sees_others: bool
    """Whether other roles' sessions and replicas can be seen (pg_read_all_stats)."""
    read_only: bool
    """A replica, or a session that is read-only by default."""

    @property
    def is_too_old(self) -> bool:
        """Whether the server is older than the oldest supported."""
        return self.version_number < OLDEST
