"""Training runs with their attempts, events and curves; schedules with what became of their times."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "training_firings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('started', 'queued', 'skipped', 'missed')", name=op.f("ck_training_firings_outcome")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_firings")),
    )
    op.create_index("ix_training_firings_schedule_id", "training_firings", ["schedule", "id"], unique=False)
    op.create_table(
        "training_schedules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("dataset", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("overrides", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("use_gpu", sa.Boolean(), nullable=False),
        sa.Column("on_success", sa.Text(), nullable=False),
        sa.Column("resume_from", sa.Text(), nullable=True),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("catch_up", sa.Text(), nullable=False),
        sa.Column("catch_up_most", sa.Integer(), nullable=False),
        sa.Column("min_new_clips", sa.Integer(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("seen_to", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("clips", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("catch_up IN ('none', 'latest', 'all')", name=op.f("ck_training_schedules_catch_up")),
        sa.CheckConstraint("on_success IN ('register', 'promote')", name=op.f("ck_training_schedules_on_success")),
        sa.CheckConstraint("overlap IN ('forbid', 'queue', 'replace')", name=op.f("ck_training_schedules_overlap")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_training_schedules")),
    )
    op.create_index(
        "ix_training_schedules_due",
        "training_schedules",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_table(
        "training_runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("dataset", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("overrides", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("use_gpu", sa.Boolean(), nullable=False),
        sa.Column("on_success", sa.Text(), nullable=False),
        sa.Column("resume_from", sa.Text(), nullable=True),
        sa.Column("schedule", sa.Text(), nullable=True),
        sa.Column("schedule_made_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fired_for", sa.DateTime(timezone=True), nullable=True),
        sa.Column("clips", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("waiting_reason", sa.Text(), nullable=True),
        sa.Column("room_asked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("yielding", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("stop_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fruitless", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "standing",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("stage_number", sa.Integer(), server_default="0", nullable=False),
        sa.Column("step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("spent_gpu_hours", sa.Double(), server_default="0", nullable=False),
        sa.Column("curves_read", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("alerts", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("asked_by", sa.Text(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("progress_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status = 'failed') = (error_code IS NOT NULL)", name=op.f("ck_training_runs_failed_has_error")
        ),
        sa.CheckConstraint(
            "(status IN ('starting', 'running', 'canceling')) = (token IS NOT NULL)",
            name=op.f("ck_training_runs_held_has_token"),
        ),
        sa.CheckConstraint(
            "(status IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_training_runs_ended_has_time"),
        ),
        sa.CheckConstraint("on_success IN ('register', 'promote')", name=op.f("ck_training_runs_on_success")),
        sa.CheckConstraint(
            "status IN ('queued', 'starting', 'running', 'canceling', 'succeeded', 'failed', 'canceled')",
            name=op.f("ck_training_runs_status"),
        ),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_training_runs_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_runs")),
        sa.UniqueConstraint(
            "schedule",
            "schedule_made_at",
            "fired_for",
            name=op.f("uq_training_runs_schedule_schedule_made_at_fired_for"),
        ),
    )
    op.create_index(
        "ix_training_runs_open", "training_runs", ["id"], unique=False, postgresql_where=sa.text("finished_at IS NULL")
    )
    op.create_index(
        "ix_training_runs_schedule_id",
        "training_runs",
        ["schedule", "id"],
        unique=False,
        postgresql_where=sa.text("schedule IS NOT NULL"),
    )
    op.create_table(
        "training_attempts",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("from_stage_number", sa.Integer(), nullable=False),
        sa.Column("from_step", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("gpu_hours", sa.Double(), server_default="0", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(outcome = 'running') = (finished_at IS NULL)", name=op.f("ck_training_attempts_finished")),
        sa.CheckConstraint(
            "outcome IN ('running', 'succeeded', 'failed', 'stopped', 'lost', 'canceled')",
            name=op.f("ck_training_attempts_outcome"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["training_runs.id"], name=op.f("fk_training_attempts_run_id")),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_training_attempts")),
        sa.UniqueConstraint("token", name=op.f("uq_training_attempts_token")),
    )
    op.create_index(
        "uq_training_attempts_running",
        "training_attempts",
        ["run_id"],
        unique=True,
        postgresql_where=sa.text("outcome = 'running'"),
    )
    op.create_table(
        "training_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["training_runs.id"], name=op.f("fk_training_events_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_events")),
    )
    op.create_index("ix_training_events_run_id_id", "training_events", ["run_id", "id"], unique=False)
    op.create_table(
        "training_points",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("losses", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["training_runs.id"], name=op.f("fk_training_points_run_id")),
        sa.PrimaryKeyConstraint("run_id", "stage", "step", name=op.f("pk_training_points")),
    )


def downgrade() -> None:
    op.drop_table("training_points")
    op.drop_index("ix_training_events_run_id_id", table_name="training_events")
    op.drop_table("training_events")
    op.drop_index(
        "uq_training_attempts_running", table_name="training_attempts", postgresql_where=sa.text("outcome = 'running'")
    )
    op.drop_table("training_attempts")
    op.drop_index(
        "ix_training_runs_schedule_id", table_name="training_runs", postgresql_where=sa.text("schedule IS NOT NULL")
    )
    op.drop_index("ix_training_runs_open", table_name="training_runs", postgresql_where=sa.text("finished_at IS NULL"))
    op.drop_table("training_runs")
    op.drop_index(
        "ix_training_schedules_due", table_name="training_schedules", postgresql_where=sa.text("next_at IS NOT NULL")
    )
    op.drop_table("training_schedules")
    op.drop_index("ix_training_firings_schedule_id", table_name="training_firings")
    op.drop_table("training_firings")
