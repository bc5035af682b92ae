-- What datasets knows of answers: a projection, whole and version-ordered. A deleted answer stays as a tombstone row
-- without its texts, so that an event delivered late does not bring it back.
CREATE TABLE responses (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  version int NOT NULL,
  slot text,
  purpose text,
  -- Answers to one prompt share it: the prompt's id, else a hash of what was asked.
  prompt_key uuid,
  -- Hash of a prompt whose text is all that the model saw. Equal prompts of different groups join the groups.
  prompt_link text,
  group_key text,
  -- Messages before the answer, and the answer.
  context jsonb,
  answer text,
  facts jsonb,
  image_id uuid,
  -- False when the event carried only the beginning; the owner is asked for the whole before it is used.
  complete boolean NOT NULL DEFAULT true,
  created_at timestamptz,
  deleted_at timestamptz,
  PRIMARY KEY (project_id, id)
);
CREATE INDEX responses_group ON responses (project_id, group_key) WHERE deleted_at IS NULL;
SELECT tl_tenant('responses');

-- Scores. A retracted one stays without effect, so that its recording delivered late does not count.
CREATE TABLE rewards (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  version int NOT NULL,
  response_id uuid NOT NULL,
  feedback_id uuid,
  kind text,
  score double precision,
  synthetic boolean,
  created_at timestamptz,
  retracted boolean NOT NULL,
  PRIMARY KEY (project_id, id)
);
CREATE INDEX rewards_response ON rewards (project_id, response_id) WHERE NOT retracted;
SELECT tl_tenant('rewards');

CREATE TABLE preferences (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  version int NOT NULL,
  chosen_response_id uuid,
  rejected_response_id uuid,
  chosen_text text,
  source text,
  kind text,
  margin double precision,
  feedback_ids uuid[],
  synthetic boolean,
  created_at timestamptz,
  retracted boolean NOT NULL,
  PRIMARY KEY (project_id, id)
);
CREATE INDEX preferences_counting ON preferences (project_id, created_at) WHERE NOT retracted;
SELECT tl_tenant('preferences');

-- Which split a group belongs to, for ever. own_split was drawn at first sight and never changes, whatever the shares
-- become later. Groups that turned out to be one share a root (the least of their keys) and a split: test wins, then
-- validation.
CREATE TABLE group_splits (
  project_id uuid NOT NULL,
  group_key text COLLATE "C" NOT NULL,
  own_split text NOT NULL CHECK (own_split IN ('train', 'validation', 'test')),
  root text COLLATE "C" NOT NULL,
  split text NOT NULL CHECK (split IN ('train', 'validation', 'test')),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, group_key)
);
CREATE INDEX group_splits_root ON group_splits (project_id, root);
SELECT tl_tenant('group_splits');

-- The group in which a prompt was first seen.
CREATE TABLE prompt_groups (
  project_id uuid NOT NULL,
  prompt_link text NOT NULL,
  group_key text COLLATE "C" NOT NULL,
  PRIMARY KEY (project_id, prompt_link)
);
SELECT tl_tenant('prompt_groups');
