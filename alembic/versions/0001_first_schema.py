"""Batches, jobs, chunks and attempts; events; assets; tenants and keys; models; workers."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_models")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("info", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("frames_per_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("draining", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("quarantined_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("quarantine_reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_index(op.f("ix_api_keys_tenant_id"), "api_keys", ["tenant_id"], unique=False)
    op.create_table(
        "assets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=True),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("blob_key", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(status = 'ready') = (blob_key IS NOT NULL)", name=op.f("ck_assets_ready_has_blob")),
        sa.CheckConstraint("status IN ('pending', 'ready')", name=op.f("ck_assets_status")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_assets_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assets")),
    )
    op.create_index("ix_assets_tenant_id_id", "assets", ["tenant_id", "id"], unique=False)
    op.create_index(
        "ix_assets_tenant_id_sha256",
        "assets",
        ["tenant_id", "sha256"],
        unique=False,
        postgresql_where=sa.text("status = 'ready'"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("headers", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_idempotency_keys_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "versions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("bundle_key", sa.Text(), nullable=False),
        sa.Column("bundle_sha256", sa.Text(), nullable=False),
        sa.Column("manifest", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("trained", sa.Boolean(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_versions_model")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint("model", "id", name=op.f("uq_versions_model_id")),
        sa.UniqueConstraint("model", "name", name=op.f("uq_versions_model_name")),
    )
    op.create_table(
        "aliases",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "version_id"], ["versions.model", "versions.id"], name=op.f("fk_aliases_model")
        ),
        sa.PrimaryKeyConstraint("model", "name", name=op.f("pk_aliases")),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("metadata", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("cancel_asked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("jobs_total", sa.Integer(), nullable=False),
        sa.Column("jobs_queued", sa.Integer(), nullable=False),
        sa.Column("jobs_running", sa.Integer(), server_default="0", nullable=False),
        sa.Column("jobs_succeeded", sa.Integer(), server_default="0", nullable=False),
        sa.Column("jobs_failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("jobs_canceled", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('running', 'paused', 'canceling', 'completed', 'canceled')", name=op.f("ck_batches_status")
        ),
        sa.CheckConstraint(
            "jobs_total = jobs_queued + jobs_running + jobs_succeeded + jobs_failed + jobs_canceled AND "
            "least(jobs_queued, jobs_running, jobs_succeeded, jobs_failed, jobs_canceled) >= 0",
            name=op.f("ck_batches_counts"),
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 100", name=op.f("ck_batches_priority")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_batches_tenant_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_batches_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index("ix_batches_tenant_id_id", "batches", ["tenant_id", "id"], unique=False)
    op.create_index("ix_batches_tenant_id_updated_at", "batches", ["tenant_id", "updated_at"], unique=False)
    op.create_table(
        "alias_moves",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("previous_version_id", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("undone", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('promote', 'rollback')", name=op.f("ck_alias_moves_kind")),
        sa.ForeignKeyConstraint(
            ["model", "alias"], ["aliases.model", "aliases.name"], name=op.f("fk_alias_moves_model")
        ),
        sa.ForeignKeyConstraint(
            ["previous_version_id"], ["versions.id"], name=op.f("fk_alias_moves_previous_version_id")
        ),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_alias_moves_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_moves")),
    )
    op.create_index("ix_alias_moves_model_alias_id", "alias_moves", ["model", "alias", "id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("custom_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("spec", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("plan", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("output", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("frames_total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("frames_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("chunks_total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("chunks_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "scores",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("preview_key", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('dub', 'animate')", name=op.f("ck_jobs_kind")),
        sa.CheckConstraint(
            "status IN ('validating', 'queued', 'running', 'paused', 'finalizing', 'succeeded', 'failed', "
            "'canceling', 'canceled', 'expired')",
            name=op.f("ck_jobs_status"),
        ),
        sa.CheckConstraint("chunks_done BETWEEN 0 AND chunks_total", name=op.f("ck_jobs_chunks")),
        sa.CheckConstraint("frames_done BETWEEN 0 AND frames_total", name=op.f("ck_jobs_frames")),
        sa.CheckConstraint("priority BETWEEN 0 AND 100", name=op.f("ck_jobs_priority")),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_jobs_batch_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_jobs_tenant_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_jobs_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("batch_id", "custom_id", name=op.f("uq_jobs_batch_id_custom_id")),
        sa.UniqueConstraint("batch_id", "ordinal", name=op.f("uq_jobs_batch_id_ordinal")),
        sa.UniqueConstraint("number", name=op.f("uq_jobs_number")),
    )
    op.create_index(
        "ix_jobs_deadline",
        "jobs",
        ["deadline"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL AND deadline IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_finished_at", "jobs", ["finished_at"], unique=False, postgresql_where=sa.text("status = 'succeeded'")
    )
    op.create_index("ix_jobs_tenant_id_number", "jobs", ["tenant_id", "number"], unique=False)
    op.create_index("ix_jobs_tenant_id_updated_at", "jobs", ["tenant_id", "updated_at"], unique=False)
    op.create_table(
        "chunks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("job_number", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("held", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), server_default="0", nullable=False),
        sa.Column("stop", sa.Integer(), server_default="0", nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts_spared", sa.Integer(), server_default="0", nullable=False),
        sa.Column("batch_frames", sa.Integer(), nullable=True),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("leased_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.Column("frames_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("frames_per_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("preview_key", sa.Text(), nullable=True),
        sa.Column("segment", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status = 'leased') = (token IS NOT NULL) AND (status = 'leased') = (lease_expires_at IS NOT "
            "NULL) AND (status = 'leased') = (worker_id IS NOT NULL)",
            name=op.f("ck_chunks_leased_has_lease"),
        ),
        sa.CheckConstraint(
            "status IN ('waiting', 'leased', 'succeeded', 'failed', 'canceled')", name=op.f("ck_chunks_status")
        ),
        sa.CheckConstraint("work IN ('plan', 'render', 'finalize')", name=op.f("ck_chunks_work")),
        sa.CheckConstraint("start >= 0 AND stop >= start", name=op.f("ck_chunks_span")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_chunks_job_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_chunks_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunks")),
        sa.UniqueConstraint("job_id", "ordinal", name=op.f("uq_chunks_job_id_ordinal")),
    )
    op.create_index(
        "ix_chunks_claim",
        "chunks",
        ["queue", sa.literal_column("priority DESC"), "job_number", "ordinal"],
        unique=False,
        postgresql_where=sa.text("status = 'waiting' AND NOT held"),
    )
    op.create_index(
        "ix_chunks_held", "chunks", ["queue"], unique=False, postgresql_where=sa.text("status = 'waiting' AND held")
    )
    op.create_index(
        "ix_chunks_lease", "chunks", ["lease_expires_at"], unique=False, postgresql_where=sa.text("status = 'leased'")
    )
    op.create_index(
        "ix_chunks_leased_job", "chunks", ["job_id"], unique=False, postgresql_where=sa.text("status = 'leased'")
    )
    op.create_index(
        "ix_chunks_worker", "chunks", ["worker_id"], unique=False, postgresql_where=sa.text("status = 'leased'")
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_events_batch_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_events_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_batch_id_id", "events", ["batch_id", "id"], unique=False)
    op.create_index(
        "ix_events_job_id_id", "events", ["job_id", "id"], unique=False, postgresql_where=sa.text("job_id IS NOT NULL")
    )
    op.create_table(
        "attempts",
        sa.Column("chunk_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column(
            "seconds",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(outcome = 'running') = (finished_at IS NULL)", name=op.f("ck_attempts_finished")),
        sa.CheckConstraint("outcome <> 'failed' OR reason IS NOT NULL", name=op.f("ck_attempts_failed_has_reason")),
        sa.CheckConstraint(
            "outcome IN ('running', 'succeeded', 'failed', 'returned')", name=op.f("ck_attempts_outcome")
        ),
        sa.CheckConstraint(
            "reason IN ('worker_lost', 'preempted', 'oom', 'timeout', 'stalled', 'bad_input', "
            "'output_check_failed', 'transient', 'canceled', 'bug')",
            name=op.f("ck_attempts_reason"),
        ),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"], name=op.f("fk_attempts_chunk_id")),
        sa.PrimaryKeyConstraint("chunk_id", "number", name=op.f("pk_attempts")),
        sa.UniqueConstraint("token", name=op.f("uq_attempts_token")),
    )


def downgrade() -> None:
    op.drop_table("attempts")
    op.drop_index("ix_events_job_id_id", table_name="events", postgresql_where=sa.text("job_id IS NOT NULL"))
    op.drop_index("ix_events_batch_id_id", table_name="events")
    op.drop_table("events")
    op.drop_index("ix_chunks_worker", table_name="chunks", postgresql_where=sa.text("status = 'leased'"))
    op.drop_index("ix_chunks_leased_job", table_name="chunks", postgresql_where=sa.text("status = 'leased'"))
    op.drop_index("ix_chunks_lease", table_name="chunks", postgresql_where=sa.text("status = 'leased'"))
    op.drop_index("ix_chunks_held", table_name="chunks", postgresql_where=sa.text("status = 'waiting' AND held"))
    op.drop_index("ix_chunks_claim", table_name="chunks", postgresql_where=sa.text("status = 'waiting' AND NOT held"))
    op.drop_table("chunks")
    op.drop_index("ix_jobs_tenant_id_updated_at", table_name="jobs")
    op.drop_index("ix_jobs_tenant_id_number", table_name="jobs")
    op.drop_index("ix_jobs_finished_at", table_name="jobs", postgresql_where=sa.text("status = 'succeeded'"))
    op.drop_index(
        "ix_jobs_deadline", table_name="jobs", postgresql_where=sa.text("finished_at IS NULL AND deadline IS NOT NULL")
    )
    op.drop_table("jobs")
    op.drop_index("ix_alias_moves_model_alias_id", table_name="alias_moves")
    op.drop_table("alias_moves")
    op.drop_index("ix_batches_tenant_id_updated_at", table_name="batches")
    op.drop_index("ix_batches_tenant_id_id", table_name="batches")
    op.drop_table("batches")
    op.drop_table("aliases")
    op.drop_table("versions")
    op.drop_index(op.f("ix_idempotency_keys_created_at"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_assets_tenant_id_sha256", table_name="assets", postgresql_where=sa.text("status = 'ready'"))
    op.drop_index("ix_assets_tenant_id_id", table_name="assets")
    op.drop_table("assets")
    op.drop_index(op.f("ix_api_keys_tenant_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("workers")
    op.drop_table("tenants")
    op.drop_table("models")
