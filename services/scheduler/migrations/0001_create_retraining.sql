CREATE TABLE schedules (
  project_id uuid PRIMARY KEY,
  cron text NOT NULL,
  time_zone text NOT NULL,
  paused boolean NOT NULL DEFAULT false,
  next_run_at timestamptz,
  last_run_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX schedules_due ON schedules (next_run_at) WHERE NOT paused;
SELECT tl_tenant('schedules');

-- One row per tick that fired: a second scheduler that computes the same tick meets it.
CREATE TABLE schedule_ticks (
  project_id uuid NOT NULL,
  fire_at timestamptz NOT NULL,
  request_id uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, fire_at)
);
SELECT tl_tenant('schedule_ticks');

CREATE TABLE retraining_requests (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  requested_by text NOT NULL,
  reason text NOT NULL,
  priority text NOT NULL CHECK (priority IN ('low', 'normal', 'high')),
  status text NOT NULL CHECK (status IN ('pending', 'processing', 'completed', 'cancelled')),
  slot text NOT NULL,
  method text NOT NULL,
  source text NOT NULL CHECK (source IN ('auto_daily', 'manual', 'decay_triggered')),
  spec jsonb NOT NULL,
  retraining_run_id uuid,
  processed_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX retraining_requests_pending ON retraining_requests (project_id, slot, created_at) WHERE status = 'pending';
SELECT tl_tenant('retraining_requests');

CREATE TABLE retraining_runs (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  request_id uuid NOT NULL UNIQUE,
  source text NOT NULL,
  slot text NOT NULL,
  status text NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed')),
  stage text NOT NULL CHECK (stage IN ('dataset', 'training', 'evaluation', 'done')),
  deadline_at timestamptz,
  dataset_size int,
  dataset_version_id uuid,
  job_id uuid,
  checkpoint_id uuid,
  fine_tune_flag boolean NOT NULL DEFAULT false,
  outcome text CHECK (outcome IN ('promoted', 'kept', 'no_action')),
  metrics jsonb,
  log_url text,
  error_message text,
  triggered_by text NOT NULL,
  started_at timestamptz,
  completed_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
-- One turn of the loop at a time per slot, kept by the database.
CREATE UNIQUE INDEX retraining_runs_open ON retraining_runs (project_id, slot) WHERE status IN ('pending', 'running');
CREATE INDEX retraining_runs_deadline ON retraining_runs (deadline_at) WHERE status IN ('pending', 'running');
SELECT tl_tenant('retraining_runs');

CREATE FUNCTION due_schedules(at timestamptz, max_rows int) RETURNS TABLE (project_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT s.project_id FROM schedules s WHERE NOT s.paused AND s.next_run_at <= at ORDER BY s.next_run_at LIMIT max_rows
$$;

-- The next request of each slot that has no open run: high priority first, then the oldest.
CREATE FUNCTION due_requests(max_rows int) RETURNS TABLE (id uuid, project_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT next.id, next.project_id FROM (
    SELECT DISTINCT ON (r.project_id, r.slot) r.id, r.project_id, r.created_at FROM retraining_requests r
    WHERE r.status = 'pending' AND NOT EXISTS (
      SELECT 1 FROM retraining_runs o
      WHERE o.project_id = r.project_id AND o.slot = r.slot AND o.status IN ('pending', 'running'))
    ORDER BY r.project_id, r.slot, array_position(ARRAY['high', 'normal', 'low'], r.priority), r.created_at
  ) next ORDER BY next.created_at LIMIT max_rows
$$;

CREATE FUNCTION overdue_runs(at timestamptz, max_rows int) RETURNS TABLE (id uuid, project_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT r.id, r.project_id FROM retraining_runs r
  WHERE r.status IN ('pending', 'running') AND r.deadline_at < at ORDER BY r.deadline_at LIMIT max_rows
$$;

REVOKE ALL ON FUNCTION due_schedules(timestamptz, int), due_requests(int), overdue_runs(timestamptz, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION due_schedules(timestamptz, int), due_requests(int), overdue_runs(timestamptz, int) TO tl_scheduler;
