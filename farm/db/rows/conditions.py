"""What statements ask of a status, spelled as in the partial indexes.

A prepared statement plans once for every value, and an index for some values is no use to it where the value is a
parameter.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, literal_column

from farm.db.rows.chunks import AttemptRow, ChunkRow
from farm.db.rows.jobs import JobRow
from farm.db.rows.media import AssetRow

is_waiting: ColumnElement[bool] = ChunkRow.status == literal_column("'waiting'")
is_leased: ColumnElement[bool] = ChunkRow.status == literal_column("'leased'")
is_held: ColumnElement[bool] = ChunkRow.held.expression
is_ready: ColumnElement[bool] = AssetRow.status == literal_column("'ready'")
has_succeeded: ColumnElement[bool] = JobRow.status == literal_column("'succeeded'")
has_failed: ColumnElement[bool] = AttemptRow.outcome == literal_column("'failed'")
