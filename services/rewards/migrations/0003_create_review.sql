-- Prompts that reviewers can be asked about, one row each. Nothing that was said is kept here, so that erasing an
-- answer leaves nothing behind.
CREATE TABLE review_items (
  project_id uuid NOT NULL,
  prompt_key uuid NOT NULL,
  image_id uuid,
  category text,
  -- Of one of its answers; another answer with another hash makes two to compare.
  text_hash bigint NOT NULL,
  -- Two distinct answers have been seen. Whoever picks the item makes sure that they are still there.
  comparable boolean NOT NULL DEFAULT false,
  -- A/B judgements that count, whoever made them.
  judged int NOT NULL DEFAULT 0,
  PRIMARY KEY (project_id, prompt_key)
);
CREATE INDEX review_items_next ON review_items (project_id, judged, prompt_key) WHERE comparable;
SELECT tl_tenant('review_items');

CREATE TABLE review_skips (
  project_id uuid NOT NULL,
  reviewer text NOT NULL,
  prompt_key uuid NOT NULL,
  skipped_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, reviewer, prompt_key)
);
SELECT tl_tenant('review_skips');

-- What a reviewer has judged, and what there is to compare.
CREATE INDEX feedback_reviewer ON feedback (project_id, user_id) WHERE kind = 'ab' AND status = 'active';
CREATE INDEX responses_prompt ON responses (project_id, prompt_key, created_at DESC)
  WHERE deleted_at IS NULL AND purpose IN ('candidate', 'production');

-- Adds to the count of judgements of the prompts behind these answers. Rows are locked in order first, so that two
-- batches never wait for each other.
CREATE FUNCTION review_add_judged(of_responses uuid[], step int) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT AS $$
  WITH counted AS (
    SELECT r.prompt_key, count(*)::int * step AS delta
    FROM unnest(of_responses) AS said (response_id) JOIN responses r ON r.id = said.response_id
    GROUP BY r.prompt_key),
  locked AS MATERIALIZED (
    SELECT i.project_id, i.prompt_key, counted.delta FROM review_items i JOIN counted USING (prompt_key)
    ORDER BY i.prompt_key FOR UPDATE OF i)
  UPDATE review_items i SET judged = greatest(i.judged + locked.delta, 0) FROM locked
  WHERE i.project_id = locked.project_id AND i.prompt_key = locked.prompt_key
$$;

-- Keeps the count true to feedback, however that comes, is superseded or taken back: in the same transaction.
CREATE FUNCTION review_count_judgements() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF EXISTS (SELECT 1 FROM new_rows WHERE kind = 'ab' AND status = 'active') THEN
      PERFORM review_add_judged(ARRAY(SELECT response_id FROM new_rows WHERE kind = 'ab' AND status = 'active'), 1);
    END IF;
  ELSIF EXISTS (SELECT 1 FROM new_rows WHERE kind = 'ab') THEN
    PERFORM review_add_judged(ARRAY(
      SELECT n.response_id FROM new_rows n JOIN old_rows o USING (project_id, id)
      WHERE n.kind = 'ab' AND n.status = 'active' AND o.status <> 'active'), 1);
    PERFORM review_add_judged(ARRAY(
      SELECT n.response_id FROM new_rows n JOIN old_rows o USING (project_id, id)
      WHERE n.kind = 'ab' AND n.status <> 'active' AND o.status = 'active'), -1);
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER review_judged_insert AFTER INSERT ON feedback REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION review_count_judgements();
CREATE TRIGGER review_judged_update AFTER UPDATE ON feedback REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION review_count_judgements();
