-- What rewards knows of responses: a projection, whole and version-ordered. A deleted response stays as a tombstone
-- row without its texts, so that an event delivered late does not bring it back.
CREATE TABLE responses (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  version int NOT NULL,
  -- Responses to one prompt share it: the prompt's id, else a hash of what was asked.
  prompt_key uuid NOT NULL,
  user_id text NOT NULL,
  prompt text NOT NULL,
  response_text text NOT NULL,
  model_id text NOT NULL,
  completion_id text,
  choice int,
  brand text,
  task text,
  session_id uuid,
  purpose text NOT NULL,
  created_at timestamptz NOT NULL,
  deleted_at timestamptz,
  PRIMARY KEY (project_id, id)
);
CREATE INDEX responses_completion ON responses (project_id, completion_id, choice) WHERE completion_id IS NOT NULL;
CREATE INDEX responses_live ON responses (project_id, model_id, created_at) WHERE deleted_at IS NULL;
SELECT tl_tenant('responses');

-- For statistics: how many checkpoints there are, which serve, how well they did.
CREATE TABLE checkpoints (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  fresh_reward double precision,
  PRIMARY KEY (project_id, id)
);
SELECT tl_tenant('checkpoints');

CREATE TABLE deployments (
  project_id uuid NOT NULL,
  slot text NOT NULL,
  version int NOT NULL,
  checkpoint_ids uuid[] NOT NULL,
  PRIMARY KEY (project_id, slot)
);
SELECT tl_tenant('deployments');
