"""Claiming and settling in one round trip each: what farm.db.leases and farm.db.ledger call."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Hands chunks of a queue to workers, each for p_lease_s seconds. The next chunk is one of the tenant that has had the
# least for its weight (shares.virtual_time); inside a tenant it is the highest priority, then the oldest job. Locks, in
# the farm's order: shares (waited for only while nothing is held), jobs that this starts (waited for only while no
# chunk is held), chunks (never waited for).
CLAIM = """
CREATE FUNCTION farm_claim(
    p_queue text, p_workers text[], p_tokens text[], p_versions text[], p_lease_s double precision
) RETURNS TABLE (
    slot integer, worker_id text, token text, chunk_id text, job_id text, batch_id text, tenant_id text, work text,
    start integer, stop integer,
    attempt integer, batch_frames integer, job_status text, expires_at double precision
) LANGUAGE plpgsql
-- The few rows wanted stand first in their indexes, whatever the statistics say.
SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    ids text[] := '{}';            -- tenants whose share this call has locked
    times double precision[] := '{}';
    weights double precision[] := '{}';
    rooms integer[] := '{}';       -- chunks below the cap, -1 before it is counted
    caps integer[] := '{}';
    turns integer[] := '{}';
    levels integer[] := '{}';
    is_open boolean[] := '{}';     -- has something for this worker, as far as is known
    is_capped boolean[] := '{}';
    is_touched boolean[] := '{}';
    stale text[] := '{}';          -- workers whose rows are behind, with the versions that they have loaded
    stale_versions text[] := '{}';
    starts_jobs boolean := false;
    is_stale boolean;
    reopen integer[] := '{}';      -- closed for this worker only: it failed what waits there
    tried text[] := '{}';          -- chunks that somebody else has locked
    served integer := 0;
    naps integer := 0;
    k integer := 0;
    best integer;
    more boolean;
    is_found boolean;
    charge double precision;
    ceiling double precision;
    at timestamptz;
    s record;
    w record;
    c record;
    other record;
    j record;
BEGIN
    <<next_worker>>
    LOOP
        k := k + 1;
        EXIT next_worker WHEN k > cardinality(p_workers);
        SELECT draining, quarantined_until, heartbeat_at < now() - interval '5 seconds' OR (
                p_versions[k] IS NOT NULL AND version_id IS DISTINCT FROM p_versions[k]) AS is_stale
        INTO w FROM workers WHERE id = p_workers[k];
        -- On trial after a quarantine: one chunk at a time.
        CONTINUE next_worker WHEN FOUND AND (w.draining OR w.quarantined_until > now() OR (
            w.quarantined_until IS NOT NULL
            AND EXISTS (SELECT FROM chunks WHERE worker_id = p_workers[k] AND status = 'leased')));
        is_stale := coalesce(w.is_stale, false);
        FOREACH best IN ARRAY reopen LOOP
            is_open[best] := true;
        END LOOP;
        reopen := '{}';

        <<next_try>>
        LOOP
            best := NULL;
            FOR i IN 1 .. cardinality(ids) LOOP
                IF is_open[i] AND (best IS NULL OR times[i] < times[best]) THEN
                    best := i;
                END IF;
            END LOOP;

            -- Many workers at once do not run one tenant ahead of those that others are serving just now.
            EXIT next_worker WHEN served > 0 AND best IS NOT NULL AND times[best] > ceiling;
            IF best IS NULL THEN
                more := false;
                FOR s IN
                    SELECT x.tenant_id, x.virtual_time, x.turn, x.level FROM shares x
                    WHERE x.queue = p_queue AND x.active AND x.tenant_id <> ALL (ids)
                    ORDER BY x.virtual_time, x.tenant_id LIMIT cardinality(p_workers) - k + 1
                    FOR NO KEY UPDATE SKIP LOCKED
                LOOP
                    SELECT weight, max_in_flight INTO w FROM tenants WHERE id = s.tenant_id;
                    ids := ids || s.tenant_id; times := times || s.virtual_time; weights := weights || w.weight;
                    caps := caps || w.max_in_flight; rooms := rooms || -1; turns := turns || s.turn;
                    levels := levels || s.level; is_open := is_open || true; is_capped := is_capped || false;
                    is_touched := is_touched || false;
                    more := true;
                END LOOP;
                CONTINUE next_try WHEN more;
                -- Nothing, or all that there is is being claimed from at this moment.
                IF served > 0 OR naps >= 20 OR NOT EXISTS (
                    SELECT FROM shares x WHERE x.queue = p_queue AND x.active AND x.tenant_id <> ALL (ids)
                ) THEN
                    EXIT next_worker WHEN cardinality(reopen) = 0;
                    CONTINUE next_worker;
                END IF;
                naps := naps + 1;
                IF cardinality(ids) = 0 THEN
                    PERFORM FROM shares x WHERE x.queue = p_queue AND x.active
                    ORDER BY x.virtual_time, x.tenant_id LIMIT 1 FOR NO KEY UPDATE;
                ELSE
                    -- Who holds one share and waited for another could be waited for.
                    PERFORM pg_sleep(0.002);
                END IF;
                CONTINUE next_try;
            END IF;

            IF caps[best] IS NOT NULL AND rooms[best] < 0 THEN
                rooms[best] := caps[best] - (SELECT count(*) FROM (
                    SELECT FROM chunks WHERE tenant_id = ids[best] AND queue = p_queue AND status = 'leased'
                    LIMIT caps[best]) in_flight);
            END IF;
            IF rooms[best] = 0 THEN
                is_open[best] := false;
                is_capped[best] := true;
                CONTINUE next_try;
            END IF;

            is_found := false;
            -- Every eighth time it is another priority's turn, round and round, where its oldest chunk has waited long.
            IF turns[best] = 7 THEN
                FOR i IN 1 .. 2 LOOP
                    SELECT id, job_id, work, priority, version_id, available_at INTO c FROM chunks
                    WHERE queue = p_queue AND tenant_id = ids[best] AND status = 'waiting' AND NOT held
                        AND priority < levels[best] AND available_at <= now() AND id <> ALL (tried)
                        AND (failed_by IS NULL OR farm_may_try(p_queue, p_workers[k], failed_by, available_at))
                    ORDER BY priority DESC, job_number, ordinal LIMIT 1;
                    EXIT WHEN FOUND;
                    levels[best] := 101;
                END LOOP;
                levels[best] := coalesce(c.priority, 101);
                is_found := coalesce(c.available_at < now() - interval '10 minutes', false);
            END IF;
            IF NOT is_found THEN
                SELECT id, job_id, work, priority, version_id, available_at INTO c FROM chunks
                WHERE queue = p_queue AND tenant_id = ids[best] AND status = 'waiting' AND NOT held
                    AND available_at <= now() AND id <> ALL (tried)
                    AND (failed_by IS NULL OR farm_may_try(p_queue, p_workers[k], failed_by, available_at))
                ORDER BY priority DESC, job_number, ordinal LIMIT 1;
                is_found := FOUND;
                -- A worker prefers what it has loaded, among the first of the same priority, but for the eighth time.
                IF turns[best] <> 7 AND c.version_id <> p_versions[k] THEN
                    SELECT id, job_id, work, priority, version_id, available_at INTO other FROM (
                        SELECT * FROM chunks
                        WHERE queue = p_queue AND tenant_id = ids[best] AND status = 'waiting' AND NOT held
                            AND priority = c.priority AND available_at <= now() AND id <> ALL (tried)
                        ORDER BY priority DESC, job_number, ordinal LIMIT 16) warm
                    WHERE version_id = p_versions[k]
                        AND (failed_by IS NULL OR farm_may_try(p_queue, p_workers[k], failed_by, available_at))
                    ORDER BY priority DESC, job_number, ordinal LIMIT 1;
                    IF FOUND THEN
                        c := other;
                    END IF;
                END IF;
            END IF;
            IF NOT is_found THEN
                is_open[best] := false;
                IF EXISTS (SELECT FROM chunks WHERE queue = p_queue AND tenant_id = ids[best] AND status = 'waiting'
                        AND NOT held AND available_at <= now() AND id <> ALL (tried)) THEN
                    reopen := reopen || best;
                END IF;
                CONTINUE next_try;
            END IF;

            SELECT batch_id, status INTO j FROM jobs WHERE id = c.job_id;
            IF j.status = 'queued' AND c.work = 'render' THEN
                IF served = 0 THEN
                    SELECT batch_id, status INTO j FROM jobs WHERE id = c.job_id FOR NO KEY UPDATE;
                ELSE
                    SELECT batch_id, status INTO j FROM jobs WHERE id = c.job_id FOR NO KEY UPDATE SKIP LOCKED;
                END IF;
            END IF;
            -- Whoever stopped the job is about to take its chunks out of the way.
            IF j.status IS NULL OR j.status NOT IN ('validating', 'queued', 'running', 'finalizing') THEN
                tried := tried || c.id;
                CONTINUE next_try;
            END IF;

            at := clock_timestamp();
            UPDATE chunks SET status = 'leased', token = p_tokens[k], worker_id = p_workers[k],
                attempts = attempts + 1, leased_at = at, lease_expires_at = at + make_interval(secs => p_lease_s),
                updated_at = at, phase = NULL, frames_done = 0, frames_per_s = 0
            WHERE id = (SELECT id FROM chunks WHERE id = c.id AND status = 'waiting' AND NOT held
                        FOR NO KEY UPDATE SKIP LOCKED)
            RETURNING * INTO other;
            IF NOT FOUND THEN
                tried := tried || c.id;
                CONTINUE next_try;
            END IF;
            INSERT INTO attempts (chunk_id, number, tenant_id, token, worker_id, outcome, started_at)
            VALUES (other.id, other.attempts, other.tenant_id, p_tokens[k], p_workers[k], 'running', at);

            -- However short, a chunk costs something; plan and finalize chunks have no frames of their own.
            charge := greatest(other.stop - other.start, 25);
            -- Who is at its cap banks nothing for later: its turn is passed over.
            FOR i IN 1 .. cardinality(ids) LOOP
                IF is_capped[i] AND times[i] <= times[best] THEN
                    times[i] := times[best] + charge / weights[i];
                    is_touched[i] := true;
                END IF;
            END LOOP;
            IF served = 0 THEN
                ceiling := coalesce((
                    SELECT min(x.virtual_time) FROM shares x
                    WHERE x.queue = p_queue AND x.active AND x.tenant_id <> ALL (ids)
                ), 'infinity') + 2 * charge / weights[best];
            END IF;
            times[best] := times[best] + charge / weights[best];
            turns[best] := mod(turns[best] + 1, 8);
            is_touched[best] := true;
            IF caps[best] IS NOT NULL THEN
                rooms[best] := rooms[best] - 1;
            END IF;
            served := served + 1;
            slot := k; worker_id := p_workers[k]; token := p_tokens[k];
            chunk_id := other.id; job_id := other.job_id; batch_id := j.batch_id;
            tenant_id := other.tenant_id; work := other.work; start := other.start; stop := other.stop;
            attempt := other.attempts; batch_frames := other.batch_frames;
            job_status := j.status; expires_at := extract(epoch FROM other.lease_expires_at);
            starts_jobs := starts_jobs OR (j.status = 'queued' AND other.work = 'render');
            IF is_stale THEN
                stale := stale || p_workers[k]; stale_versions := stale_versions || p_versions[k];
            END IF;
            RETURN NEXT;
            CONTINUE next_worker;
        END LOOP;
    END LOOP;

    FOR i IN 1 .. cardinality(ids) LOOP
        IF is_touched[i] THEN
            UPDATE shares SET virtual_time = times[i], turn = turns[i], level = levels[i]
            WHERE tenant_id = ids[i] AND queue = p_queue;
        END IF;
    END LOOP;
    -- Workers come last of all locks, and batches are still to come where jobs start; their heartbeats will say it.
    IF NOT starts_jobs AND cardinality(stale) > 0 THEN
        UPDATE workers SET heartbeat_at = now(), version_id = coalesce(x.version, version_id)
        FROM unnest(stale, stale_versions) AS x (id, version) WHERE workers.id = x.id;
    END IF;
END $$
"""

# Whether a worker may have a chunk that others and perhaps itself have failed: not again while somebody else could try,
# but for so long only.
MAY_TRY = """
CREATE FUNCTION farm_may_try(p_queue text, p_worker text, p_failed_by text[], p_available_at timestamptz)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT p_worker <> ALL (p_failed_by) OR p_available_at < now() - interval '2 minutes' OR NOT EXISTS (
        SELECT FROM workers WHERE left_at IS NULL AND heartbeat_at > now() - interval '30 seconds' AND NOT draining
            AND quarantined_until IS NULL AND p_queue = ANY (queues) AND id <> ALL (p_failed_by))
$$
"""

# A render chunk succeeded: the chunk, its attempt and its job's counts. No row: the token is stale. is_stopped: the job
# was stopped, and nothing was written. The job stays locked for what follows.
FINISH = """
CREATE FUNCTION farm_finish(
    p_job text, p_chunk text, p_token text, p_segment jsonb, p_frames integer, p_seconds jsonb, p_preview text
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
    SELECT queue, worker_id INTO c FROM chunks WHERE id = p_chunk AND token = p_token AND status = 'leased';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    queue := c.queue;
    worker_id := c.worker_id;
    IF j.status NOT IN ('validating', 'queued', 'running', 'finalizing', 'paused') THEN
        is_stopped := true;
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE chunks SET status = 'succeeded', token = NULL, worker_id = NULL, lease_expires_at = NULL, phase = NULL,
        frames_per_s = 0, frames_done = p_frames, segment = p_segment, updated_at = now(), finished_at = now()
    WHERE id = p_chunk AND token = p_token AND status = 'leased' AND job_id = p_job
    RETURNING preview_key, failed_by INTO c;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE attempts SET outcome = 'succeeded', seconds = p_seconds, finished_at = now()
    WHERE token = p_token AND outcome = 'running';
    UPDATE jobs SET chunks_done = chunks_done + 1, frames_done = frames_done + p_frames, updated_at = now(),
        preview_key = coalesce(p_preview, c.preview_key, preview_key)
    WHERE id = p_job;
    is_stopped := false;
    is_last := j.chunks_done + 1 >= j.chunks_total;
    failed_by := c.failed_by;
    on_trial := EXISTS (SELECT FROM workers x WHERE x.id = worker_id AND x.quarantined_until <= now());
    RETURN NEXT;
END $$
"""


def upgrade() -> None:
    for function in (MAY_TRY, CLAIM, FINISH):
        op.execute(function)


def downgrade() -> None:
    op.execute("DROP FUNCTION farm_finish")
    op.execute("DROP FUNCTION farm_claim")
    op.execute("DROP FUNCTION farm_may_try")
