-- Answers of models, whoever gave them. `version` grows with each change; readers keep the highest.
CREATE TABLE responses (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  version int NOT NULL DEFAULT 1,
  user_id text NOT NULL,
  prompt_id uuid,
  prompt text NOT NULL,
  messages jsonb,
  response_text text NOT NULL,
  model_id text NOT NULL,
  checkpoint_id uuid,
  slot text NOT NULL DEFAULT 'default',
  completion_id text,
  choice int,
  image_id uuid,
  facts jsonb,
  group_key text NOT NULL,
  category text,
  brand text,
  task text,
  session_id uuid,
  purpose text NOT NULL CHECK (purpose IN ('production', 'candidate', 'evaluation', 'imported')),
  metadata jsonb NOT NULL DEFAULT '{}',
  trace_id uuid,
  -- Whole milliseconds, so that a page's cursor loses nothing.
  created_at timestamptz NOT NULL DEFAULT date_trunc('milliseconds', now()),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX responses_completion ON responses (project_id, completion_id, choice) WHERE completion_id IS NOT NULL;
CREATE INDEX responses_newest ON responses (project_id, created_at DESC, id DESC);
CREATE INDEX responses_user ON responses (project_id, user_id, created_at DESC);
CREATE INDEX responses_model ON responses (project_id, model_id, created_at DESC);
CREATE INDEX responses_prompt ON responses (prompt_id) WHERE prompt_id IS NOT NULL;
CREATE INDEX responses_image ON responses (image_id) WHERE image_id IS NOT NULL;
CREATE INDEX responses_session ON responses (project_id, session_id) WHERE session_id IS NOT NULL;
SELECT tl_tenant('responses');

-- One row per generation: a small insert before the first byte, finished in the transaction that stores the answer.
-- A row left open belongs to a process that died; the sweeper marks it cut off.
CREATE TABLE traces (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('chat', 'candidates', 'generate')),
  status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'done', 'failed', 'cut_off')),
  instance text NOT NULL,
  provider text NOT NULL,
  model text NOT NULL,
  checkpoint_id uuid,
  slot text,
  user_id text,
  prompt_id uuid,
  prompt_version int,
  prompt_tokens int NOT NULL DEFAULT 0,
  completion_tokens int NOT NULL DEFAULT 0,
  cost_usd float8 NOT NULL DEFAULT 0,
  latency_ms float8,
  first_token_ms float8,
  error text,
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);
CREATE INDEX traces_open ON traces (started_at) WHERE status = 'open';
CREATE INDEX traces_newest ON traces (project_id, started_at DESC);
SELECT tl_tenant('traces');

CREATE FUNCTION sweep_traces(older_than interval, max_rows int) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  WITH swept AS (
    UPDATE traces SET status = 'cut_off', finished_at = now(), error = 'the process that generated it ended'
    WHERE id IN (
      SELECT t.id FROM traces t WHERE t.status = 'open' AND t.started_at < now() - older_than
      ORDER BY t.started_at LIMIT max_rows FOR UPDATE SKIP LOCKED)
    RETURNING 1
  ) SELECT count(*) FROM swept
$$;
REVOKE ALL ON FUNCTION sweep_traces(interval, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sweep_traces(interval, int) TO tl_responses;
