"""What Alembic runs: the revisions, on the connection and in the transaction that ``migrate.upgrade`` has opened.

To write a new revision, change tables.py, upgrade a scratch database, and compare by
``alembic.autogenerate.produce_migrations``; number the file after the last one.
"""

from alembic import context

from dashboard.history.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite changes a column by building the table anew.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
