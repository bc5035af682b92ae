-- One fine-tuning run. The states are those of the product; 'training' without a live lease is taken over.
CREATE TABLE training_jobs (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  -- The training request that asked for it; null for jobs made over HTTP.
  request_id uuid UNIQUE,
  correlation_id uuid NOT NULL,
  source text NOT NULL CHECK (source IN ('loop', 'direct', 'openai')),
  status text NOT NULL CHECK (status IN (
    'pending', 'waiting_for_dataset', 'uploading', 'validating', 'queued', 'training', 'paused', 'evaluating',
    'completed', 'failed', 'cancelled')),
  method text NOT NULL,
  slot text NOT NULL,
  base_model text NOT NULL,
  start_from text NOT NULL,
  reference text NOT NULL,
  seed int NOT NULL,
  suffix text,
  priority int NOT NULL DEFAULT 0,
  -- Whether the checkpoint is evaluated and may be promoted by the gate.
  evaluate boolean NOT NULL,
  -- As asked for; what is left out has the method's default.
  hyperparameters jsonb NOT NULL DEFAULT '{}',
  -- As used: frozen by the first worker, so that a takeover computes the same.
  settings jsonb,
  dataset_version_id uuid,
  dataset jsonb,
  -- What only OpenAI's job object has: files, method, metadata, integrations.
  openai jsonb,
  request_hash text,
  requested_by text NOT NULL,
  attempts int NOT NULL DEFAULT 0,
  lease_owner text,
  lease_epoch int NOT NULL DEFAULT 0,
  lease_until timestamptz,
  -- Last saved training state.
  state_key text,
  state_step int,
  progress jsonb,
  result jsonb,
  checkpoint_id uuid,
  error jsonb,
  cancelled_by text,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  trained_at timestamptz,
  completed_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX training_jobs_order ON training_jobs (project_id, id);
CREATE INDEX training_jobs_due ON training_jobs (priority DESC, created_at)
  WHERE status IN ('validating', 'queued', 'training');
CREATE INDEX training_jobs_waiting ON training_jobs (created_at) WHERE status = 'waiting_for_dataset';
CREATE INDEX training_jobs_request_hash ON training_jobs (project_id, request_hash) WHERE request_hash IS NOT NULL;
SELECT tl_tenant('training_jobs');

-- The curve: one row a step. A resumed run writes the steps after its saved state anew.
CREATE TABLE training_metrics (
  id uuid NOT NULL,
  project_id uuid NOT NULL,
  job_id uuid NOT NULL REFERENCES training_jobs (id) ON DELETE CASCADE,
  step int NOT NULL,
  epoch double precision NOT NULL,
  loss double precision NOT NULL,
  eval_loss double precision,
  learning_rate double precision NOT NULL,
  grad_norm double precision NOT NULL,
  tokens_per_second double precision NOT NULL,
  reward_margin double precision,
  accuracy double precision,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (job_id, step)
);
SELECT tl_tenant('training_metrics');

-- What a person reads about a job.
CREATE TABLE training_messages (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  job_id uuid NOT NULL REFERENCES training_jobs (id) ON DELETE CASCADE,
  level text NOT NULL CHECK (level IN ('info', 'warn', 'error')),
  message text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX training_messages_job ON training_messages (job_id, id);
SELECT tl_tenant('training_messages');

-- The datasets service may answer before the request has reached us: the answer waits here.
CREATE TABLE early_datasets (
  request_id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  answer jsonb NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now()
);
SELECT tl_tenant('early_datasets');

CREATE TABLE checkpoints (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  job_id uuid REFERENCES training_jobs (id),
  slot text NOT NULL,
  -- 'trained' here, or 'posted' by a client as a record.
  origin text NOT NULL CHECK (origin IN ('trained', 'posted')),
  version text NOT NULL,
  storage_key text NOT NULL,
  url text,
  sha256 text,
  base_model text,
  model_name text,
  step int,
  epoch double precision NOT NULL,
  avg_reward double precision,
  metrics jsonb NOT NULL DEFAULT '{}',
  lineage jsonb NOT NULL DEFAULT '{}',
  manifest jsonb NOT NULL DEFAULT '{}',
  is_active boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX checkpoints_active ON checkpoints (project_id, slot) WHERE is_active;
CREATE UNIQUE INDEX checkpoints_model_name ON checkpoints (project_id, model_name) WHERE model_name IS NOT NULL;
CREATE UNIQUE INDEX checkpoints_job ON checkpoints (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX checkpoints_order ON checkpoints (project_id, id);
SELECT tl_tenant('checkpoints');

CREATE TABLE evaluations (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  job_id uuid NOT NULL REFERENCES training_jobs (id),
  checkpoint_id uuid NOT NULL,
  slot text NOT NULL,
  status text NOT NULL CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
  -- What it is compared with; null until a worker has looked at what serves.
  incumbent jsonb,
  progress jsonb,
  before jsonb,
  after jsonb,
  -- Paired differences, after minus before.
  difference jsonb,
  judge jsonb,
  samples_key text,
  error jsonb,
  attempts int NOT NULL DEFAULT 0,
  lease_owner text,
  lease_epoch int NOT NULL DEFAULT 0,
  lease_until timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  completed_at timestamptz
);
CREATE UNIQUE INDEX evaluations_job ON evaluations (job_id);
CREATE INDEX evaluations_order ON evaluations (project_id, id);
CREATE INDEX evaluations_due ON evaluations (created_at) WHERE status IN ('queued', 'running');
SELECT tl_tenant('evaluations');

CREATE TABLE promotion_decisions (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  slot text NOT NULL,
  job_id uuid NOT NULL REFERENCES training_jobs (id),
  evaluation_id uuid NOT NULL REFERENCES evaluations (id),
  checkpoint_id uuid NOT NULL,
  decision text NOT NULL CHECK (decision IN ('promoted', 'kept')),
  reason text NOT NULL,
  decided_by text NOT NULL,
  -- Every number the gate used.
  numbers jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  overridden_at timestamptz
);
CREATE INDEX promotion_decisions_order ON promotion_decisions (project_id, id);
SELECT tl_tenant('promotion_decisions');

-- One row a slot: its lock, its settings, and what the gate has spent there.
CREATE TABLE slots (
  project_id uuid NOT NULL,
  slot text NOT NULL,
  -- Of the deployment that serves; 0 before the first.
  deployment_version int NOT NULL DEFAULT 0,
  -- Whether a verified artefact that was posted, not trained here, may serve.
  allow_posted boolean NOT NULL DEFAULT false,
  spending jsonb,
  -- Hashes of the test groups when the spending period began.
  spending_groups jsonb,
  spending_version int NOT NULL DEFAULT 0,
  PRIMARY KEY (project_id, slot)
);
SELECT tl_tenant('slots');

-- Every deployment there was; the slot's row names the one that serves.
CREATE TABLE deployments (
  project_id uuid NOT NULL,
  slot text NOT NULL,
  version int NOT NULL,
  targets jsonb NOT NULL,
  changed_by text NOT NULL,
  reason text NOT NULL,
  -- Set by a rollback: the version whose targets it brought back.
  restores int,
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, slot, version)
);
SELECT tl_tenant('deployments');

CREATE FUNCTION claim_training_jobs(owner text, lease_ms int, max_rows int)
RETURNS TABLE (id uuid, project_id uuid, epoch int)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  UPDATE training_jobs j
  SET lease_owner = claim_training_jobs.owner, lease_epoch = j.lease_epoch + 1,
      lease_until = now() + make_interval(secs => lease_ms / 1000.0)
  WHERE j.id IN (
    SELECT t.id FROM training_jobs t
    WHERE t.status IN ('validating', 'queued', 'training') AND (t.lease_until IS NULL OR t.lease_until < now())
    ORDER BY t.priority DESC, t.created_at, t.id LIMIT max_rows FOR UPDATE SKIP LOCKED)
  RETURNING j.id, j.project_id, j.lease_epoch
$$;

CREATE FUNCTION claim_evaluations(owner text, lease_ms int, max_rows int)
RETURNS TABLE (id uuid, project_id uuid, epoch int)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  UPDATE evaluations e
  SET lease_owner = claim_evaluations.owner, lease_epoch = e.lease_epoch + 1,
      lease_until = now() + make_interval(secs => lease_ms / 1000.0)
  WHERE e.id IN (
    SELECT d.id FROM evaluations d
    WHERE d.status IN ('queued', 'running') AND (d.lease_until IS NULL OR d.lease_until < now())
    ORDER BY d.created_at, d.id LIMIT max_rows FOR UPDATE SKIP LOCKED)
  RETURNING e.id, e.project_id, e.lease_epoch
$$;

CREATE FUNCTION overdue_training_jobs(created_before timestamptz, max_rows int) RETURNS TABLE (id uuid, project_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT j.id, j.project_id FROM training_jobs j
  WHERE j.status = 'waiting_for_dataset' AND j.created_at < created_before ORDER BY j.created_at LIMIT max_rows
$$;

REVOKE ALL ON FUNCTION claim_training_jobs(text, int, int), claim_evaluations(text, int, int),
  overdue_training_jobs(timestamptz, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_training_jobs(text, int, int), claim_evaluations(text, int, int),
  overdue_training_jobs(timestamptz, int) TO tl_trainer;
