"""Every run, stored while it grows and read without a model: SQLAlchemy on SQLite, or on a PostgreSQL server.

``History`` is the way in. Importing this package costs SQLAlchemy and numpy, never torch or pandas; Alembic is
imported only when a database has to be brought up to date.
"""

from dashboard.history.records import BranchNode, NewRun, RunPage, RunRecord, RunStatus, RunSummary
from dashboard.history.store import EndStatus, History

__all__ = ["BranchNode", "EndStatus", "History", "NewRun", "RunPage", "RunRecord", "RunStatus", "RunSummary"]
