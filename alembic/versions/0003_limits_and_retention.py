"""Tenants' limits, keys that expire, rights of a job; what of a job's objects is erased, and who needs which input."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STAMP = sa.DateTime(timezone=True)
ENDED = "finished_at IS NOT NULL"


def upgrade() -> None:
    for column in (
        sa.Column("is_operator", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        *_rate(),
        sa.Column("quota_jobs_open", sa.Integer()),
        sa.Column("quota_frames_month", sa.BigInteger()),
        sa.Column("quota_storage_bytes", sa.BigInteger()),
        sa.Column("retention", postgresql.JSONB(none_as_null=True)),
    ):
        op.add_column("tenants", column)
    # Who made the farm runs it: ids are ordered by time.
    op.execute("UPDATE tenants SET is_operator = true WHERE id = (SELECT min(id) FROM tenants)")
    for column in (*_rate(), sa.Column("expires_at", STAMP)):
        op.add_column("api_keys", column)
    op.add_column("batches", sa.Column("asked_by", sa.Text()))

    for column in (
        sa.Column(
            "output_bytes",
            sa.BigInteger(),
            sa.Computed("((output -> 'blob') ->> 'size_bytes')::bigint", persisted=True),
        ),
        sa.Column("rights", postgresql.JSONB(none_as_null=True)),
        *(
            sa.Column(name, STAMP)
            for name in ("chunks_erased_at", "previews_erased_at", "output_erased_at", "deleted_at", "sweep_at")
        ),
    ):
        op.add_column("jobs", column)
    op.create_index("ix_jobs_open", "jobs", ["tenant_id"], postgresql_where=sa.text("finished_at IS NULL"))
    op.create_index(
        "ix_jobs_frames",
        "jobs",
        ["tenant_id", "finished_at"],
        postgresql_include=["frames_done"],
        postgresql_where=sa.text(ENDED),
    )
    op.create_index(
        "ix_jobs_stored",
        "jobs",
        ["tenant_id"],
        postgresql_include=["output_bytes"],
        postgresql_where=sa.text("output_bytes IS NOT NULL AND output_erased_at IS NULL"),
    )
    for name, what in {
        "chunks": "chunks_erased_at IS NULL",
        "previews": "previews_erased_at IS NULL",
        "output": "output IS NOT NULL AND output_erased_at IS NULL",
    }.items():
        due = sa.text(f"{ENDED} AND {what}")
        op.create_index(f"ix_jobs_{name}_due", "jobs", ["tenant_id", "finished_at"], postgresql_where=due)
    op.create_index("ix_jobs_sweep_at", "jobs", ["sweep_at"], postgresql_where=sa.text("sweep_at IS NOT NULL"))

    op.create_table(
        "media_uses",
        sa.Column("media", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_media_uses_job_id")),
        sa.PrimaryKeyConstraint("media", "job_id", name=op.f("pk_media_uses")),
    )
    op.create_index("ix_media_uses_job_id", "media_uses", ["job_id"])
    op.create_table(
        "inputs",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("used_at", STAMP, server_default=sa.text("now()"), nullable=False),
        sa.Column("sweeping", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("swept_at", STAMP),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_inputs")),
    )
    op.create_index("ix_inputs_used_at", "inputs", ["used_at"], postgresql_where=sa.text("swept_at IS NULL"))
    op.add_column("assets", sa.Column("used_at", STAMP, server_default=sa.text("now()"), nullable=False))
    op.add_column("assets", sa.Column("expired_at", STAMP))
    _asset_statuses("'pending', 'ready', 'expired'")
    op.create_index("ix_assets_blob_key", "assets", ["blob_key"], postgresql_where=sa.text("status = 'ready'"))
    op.create_index(
        "ix_assets_used_at", "assets", ["tenant_id", "used_at"], postgresql_where=sa.text("status <> 'expired'")
    )
    # What the jobs of before need: the media that their plans fixed, and the assets that they name.
    op.execute(
        "INSERT INTO media_uses (media, job_id)"
        " SELECT DISTINCT trim('\"' FROM named::text), id FROM jobs, LATERAL"
        " (SELECT jsonb_path_query(spec, '$.**.asset_id') AS named"
        "  UNION SELECT jsonb_path_query(plan, '$.source.key') UNION SELECT jsonb_path_query(plan, '$.voice.key')"
        "  UNION SELECT jsonb_path_query(plan, '$.drivers[*].key')) AS media"
        " WHERE jsonb_typeof(named) = 'string'"
    )
    op.execute(
        "INSERT INTO inputs (key) SELECT media FROM media_uses WHERE media LIKE 'inputs/%'"
        " UNION SELECT blob_key FROM assets WHERE blob_key IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_index("ix_assets_used_at", table_name="assets")
    op.drop_index("ix_assets_blob_key", table_name="assets")
    op.execute("UPDATE assets SET status = 'pending' WHERE status = 'expired'")
    _asset_statuses("'pending', 'ready'")
    op.drop_column("assets", "expired_at")
    op.drop_column("assets", "used_at")
    op.drop_table("inputs")
    op.drop_table("media_uses")
    for name in ("sweep_at", "output_due", "previews_due", "chunks_due", "stored", "frames", "open"):
        op.drop_index(f"ix_jobs_{name}", table_name="jobs")
    for name in (
        "sweep_at",
        "deleted_at",
        "output_erased_at",
        "previews_erased_at",
        "chunks_erased_at",
        "rights",
        "output_bytes",
    ):
        op.drop_column("jobs", name)
    op.drop_column("batches", "asked_by")
    for name in ("expires_at", "rate_burst", "rate_per_s"):
        op.drop_column("api_keys", name)
    for name in (
        "retention",
        "quota_storage_bytes",
        "quota_frames_month",
        "quota_jobs_open",
        "rate_burst",
        "rate_per_s",
        "is_operator",
    ):
        op.drop_column("tenants", name)


def _rate() -> tuple[sa.Column[float], sa.Column[int]]:
    return sa.Column("rate_per_s", sa.Double()), sa.Column("rate_burst", sa.Integer())


def _asset_statuses(listed: str) -> None:
    op.drop_constraint(op.f("ck_assets_status"), "assets", type_="check")
    op.create_check_constraint(op.f("ck_assets_status"), "assets", f"status IN ({listed})")
