-- Which responses each session has led to: a projection of response events, ordered by version.
CREATE TABLE session_responses (
  response_id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  session_id uuid,
  version int NOT NULL,
  deleted boolean NOT NULL DEFAULT false
);
CREATE INDEX session_responses_session ON session_responses (session_id) WHERE session_id IS NOT NULL AND NOT deleted;
SELECT tl_tenant('session_responses');

-- Which responses have a reward that counts. A reward may be seen before its response.
CREATE TABLE response_rewards (
  reward_id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  response_id uuid NOT NULL,
  version int NOT NULL,
  retracted boolean NOT NULL DEFAULT false
);
CREATE INDEX response_rewards_response ON response_rewards (response_id) WHERE NOT retracted;
SELECT tl_tenant('response_rewards');
