-- Feedback as it was given; what became of it is in status. History stays.
CREATE TABLE feedback (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  kind text NOT NULL,
  response_id uuid NOT NULL,
  other_response_id uuid,
  user_id text NOT NULL,
  -- Of the ratings with one key (kind, user, answer) only the latest counts. Null: nobody known said it, or it rates nothing.
  rating_key uuid,
  brand text,
  task text,
  session_id text,
  synthetic boolean NOT NULL,
  -- Null where the comment says it all.
  value jsonb,
  comment text,
  score double precision CHECK (score BETWEEN -1 AND 1),
  status text NOT NULL CHECK (status IN ('active', 'superseded', 'deleted')),
  superseded_by uuid,
  metadata jsonb,
  created_at timestamptz NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, id)
);
CREATE UNIQUE INDEX feedback_rating ON feedback (project_id, rating_key) WHERE status = 'active' AND rating_key IS NOT NULL;
CREATE INDEX feedback_rating_latest ON feedback (project_id, rating_key, created_at DESC, id DESC) WHERE rating_key IS NOT NULL;
CREATE INDEX feedback_response ON feedback (project_id, response_id);
CREATE INDEX feedback_other_response ON feedback (project_id, other_response_id) WHERE other_response_id IS NOT NULL;
SELECT tl_tenant('feedback');

CREATE TABLE rewards (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  version int NOT NULL,
  feedback_id uuid,
  response_id uuid NOT NULL,
  prompt_key uuid NOT NULL,
  kind text NOT NULL,
  score double precision NOT NULL CHECK (score BETWEEN -1 AND 1),
  stars int,
  rater text NOT NULL,
  -- Whether the rater is known: only then are two ratings of theirs comparable.
  identified boolean NOT NULL,
  synthetic boolean NOT NULL,
  detail jsonb,
  brand text,
  task text,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'retracted')),
  reason text,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (project_id, id)
);
CREATE UNIQUE INDEX rewards_feedback ON rewards (project_id, feedback_id) WHERE feedback_id IS NOT NULL;
CREATE INDEX rewards_response ON rewards (project_id, response_id);
CREATE INDEX rewards_prompt ON rewards (project_id, prompt_key, kind, rater) WHERE status = 'active' AND identified;
CREATE INDEX rewards_created ON rewards (project_id, created_at DESC, id DESC) WHERE status = 'active';
SELECT tl_tenant('rewards');

CREATE TABLE preferences (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  version int NOT NULL,
  source text NOT NULL CHECK (source IN ('ab', 'correction', 'ratings', 'import')),
  kind text NOT NULL,
  prompt_key uuid NOT NULL,
  chosen_response_id uuid NOT NULL,
  rejected_response_id uuid,
  chosen_text text,
  margin double precision,
  feedback_ids uuid[] NOT NULL,
  rater text NOT NULL,
  synthetic boolean NOT NULL,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'retracted')),
  reason text,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (project_id, id)
);
CREATE INDEX preferences_prompt ON preferences (project_id, prompt_key) WHERE status = 'active' AND source = 'ratings';
CREATE INDEX preferences_chosen ON preferences (project_id, chosen_response_id);
CREATE INDEX preferences_rejected ON preferences (project_id, rejected_response_id) WHERE rejected_response_id IS NOT NULL;
CREATE INDEX preferences_created ON preferences (project_id, created_at DESC, id DESC) WHERE status = 'active';
SELECT tl_tenant('preferences');
