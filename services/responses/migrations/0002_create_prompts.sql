-- Templates by category. Defaults are rows too (edited = false), made when a project first needs them.
CREATE TABLE prompt_templates (
  project_id uuid NOT NULL,
  category text NOT NULL,
  version int NOT NULL DEFAULT 1,
  body text NOT NULL,
  system text,
  edited boolean NOT NULL DEFAULT false,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, category)
);
SELECT tl_tenant('prompt_templates');

-- What each version said: a prompt names the version it was written from.
CREATE TABLE prompt_template_versions (
  project_id uuid NOT NULL,
  category text NOT NULL,
  version int NOT NULL,
  body text NOT NULL,
  system text,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, category, version)
);
SELECT tl_tenant('prompt_template_versions');

CREATE TABLE prompts (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  image_id uuid,
  session_id uuid,
  user_id text NOT NULL,
  category text NOT NULL,
  brand text,
  task text,
  slot text NOT NULL DEFAULT 'default',
  text text NOT NULL,
  system text,
  facts jsonb,
  group_key text NOT NULL,
  template_category text,
  template_version int,
  -- Answers asked for. The seed makes them the same again when a crash forces a second try.
  candidates int NOT NULL,
  seed int NOT NULL,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done', 'failed', 'skipped')),
  reason text,
  correlation_id uuid,
  causation_id uuid,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX prompts_image ON prompts (project_id, image_id) WHERE image_id IS NOT NULL;
CREATE INDEX prompts_order ON prompts (project_id, id);
CREATE INDEX prompts_session ON prompts (project_id, session_id, id) WHERE session_id IS NOT NULL;
SELECT tl_tenant('prompts');

-- Generation of one prompt's candidates as a leased row; gone once the answers are stored.
CREATE TABLE generation_jobs (
  id uuid PRIMARY KEY REFERENCES prompts (id) ON DELETE CASCADE,
  project_id uuid NOT NULL,
  attempts int NOT NULL DEFAULT 0,
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_owner text,
  lease_epoch int NOT NULL DEFAULT 0,
  lease_until timestamptz
);
CREATE INDEX generation_jobs_due ON generation_jobs (due_at);
SELECT tl_tenant('generation_jobs');

CREATE FUNCTION claim_generation_jobs(owner text, lease_ms int, max_rows int)
RETURNS TABLE (id uuid, project_id uuid, epoch int)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  UPDATE generation_jobs j
  SET lease_owner = claim_generation_jobs.owner, lease_epoch = j.lease_epoch + 1,
      lease_until = now() + make_interval(secs => lease_ms / 1000.0)
  WHERE j.id IN (
    SELECT g.id FROM generation_jobs g
    WHERE g.due_at <= now() AND (g.lease_until IS NULL OR g.lease_until < now())
    ORDER BY g.due_at, g.id LIMIT max_rows FOR UPDATE SKIP LOCKED)
  RETURNING j.id, j.project_id, j.lease_epoch
$$;
REVOKE ALL ON FUNCTION claim_generation_jobs(text, int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_generation_jobs(text, int, int) TO tl_responses;
