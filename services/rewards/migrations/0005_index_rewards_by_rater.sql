-- One rater's ratings on a prompt in the order in which they are read: without a sort to save, a planner that knows
-- nothing of a young table went through all rewards of the project instead.
CREATE INDEX rewards_rater ON rewards (project_id, prompt_key, kind, rater, feedback_id)
  WHERE status = 'active' AND identified AND feedback_id IS NOT NULL;
DROP INDEX rewards_prompt;
