"""Alembic's environment: it runs inside the connection and schema that ``shared.storage.migrate`` gives it."""

from alembic import context

config = context.config
context.configure(
    connection=config.attributes["connection"],
    version_table="alembic_version",
    version_table_schema=config.attributes["schema"],
)
with context.begin_transaction():
    context.run_migrations()
