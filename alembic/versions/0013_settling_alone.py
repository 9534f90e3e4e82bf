"""Settling a segment in one round trip, where nothing else follows from it: what farm.db.ledger calls."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# A render chunk succeeded: the chunk, its attempt and its job's counts. No row: the token is stale. is_stopped: the job
# was stopped, and nothing was written. The job stays locked for what follows. p_alone: nothing may follow, no row then
# says that something would, and that nothing was written.
FINISH = """
CREATE FUNCTION farm_finish(
    p_job text, p_chunk text, p_token text, p_segment jsonb, p_frames integer, p_seconds jsonb, p_preview text,
    p_alone boolean
) RETURNS TABLE (
    job_status text, is_stopped boolean, is_last boolean, queue text, worker_id text, on_trial boolean, failed_by text[]
)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    j record;
    c record;
BEGIN
    SELECT status, chunks_done, chunks_total INTO j FROM jobs WHERE id = p_job FOR NO KEY UPDATE;
    job_status := j.status;
    is_stopped := j.status NOT IN ('validating', 'queued', 'running', 'finalizing', 'paused');
    is_last := j.chunks_done + 1 >= j.chunks_total;
    IF p_alone AND (is_stopped OR is_last) THEN
        RETURN;
    END IF;
    IF is_stopped THEN
        SELECT queue, worker_id INTO c FROM chunks WHERE id = p_chunk AND token = p_token AND status = 'leased';
        IF FOUND THEN
            queue := c.queue;
            worker_id := c.worker_id;
            RETURN NEXT;
        END IF;
        RETURN;
    END IF;
    UPDATE chunks SET status = 'succeeded', token = NULL, worker_id = NULL, lease_expires_at = NULL, phase = NULL,
        frames_per_s = 0, frames_done = p_frames, segment = p_segment, updated_at = now(), finished_at = now()
    WHERE id = p_chunk AND token = p_token AND status = 'leased' AND job_id = p_job AND NOT (p_alone AND (
        failed_by IS NOT NULL
        OR EXISTS (SELECT FROM workers x WHERE x.id = chunks.worker_id AND x.quarantined_until IS NOT NULL)))
    RETURNING queue, preview_key, failed_by INTO c;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    queue := c.queue;
    failed_by := c.failed_by;
    UPDATE attempts SET outcome = 'succeeded', seconds = p_seconds, finished_at = now()
    WHERE token = p_token AND outcome = 'running'
    RETURNING worker_id INTO worker_id;
    UPDATE jobs SET chunks_done = chunks_done + 1, frames_done = frames_done + p_frames, updated_at = now(),
        preview_key = coalesce(p_preview, c.preview_key, preview_key)
    WHERE id = p_job;
    on_trial := NOT p_alone AND EXISTS (
        SELECT FROM workers x WHERE x.id = worker_id AND x.quarantined_until <= now());
    RETURN NEXT;
END $$
"""


def upgrade() -> None:
    op.execute(FINISH)


def downgrade() -> None:
    op.execute("DROP FUNCTION farm_finish(text, text, text, jsonb, integer, jsonb, text, boolean)")
