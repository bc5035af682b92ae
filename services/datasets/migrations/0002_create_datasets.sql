CREATE TABLE datasets (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  name text NOT NULL,
  kind text NOT NULL,
  slot text NOT NULL,
  -- training: what training requests are frozen into; manual: asked for by a person; file: uploaded.
  source text NOT NULL CHECK (source IN ('training', 'manual', 'file')),
  created_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, id)
);
SELECT tl_tenant('datasets');

-- A version is made in one transaction: nobody sees one that is not ready.
CREATE TABLE dataset_versions (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  dataset_id uuid NOT NULL,
  number int NOT NULL,
  kind text NOT NULL,
  -- SHA-256 over the SHA-256 of each row's line, in the order in which rows are read.
  content_hash text NOT NULL,
  train_examples int NOT NULL,
  validation_examples int NOT NULL,
  test_examples int NOT NULL,
  test_groups int NOT NULL,
  test_fingerprint text NOT NULL,
  query jsonb NOT NULL,
  validation jsonb NOT NULL,
  leaked_groups int NOT NULL,
  open_quarantine int NOT NULL,
  created_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, id),
  UNIQUE (project_id, dataset_id, number)
);
SELECT tl_tenant('dataset_versions');

CREATE TABLE version_examples (
  project_id uuid NOT NULL,
  version_id uuid NOT NULL,
  split text NOT NULL CHECK (split IN ('train', 'validation', 'test')),
  -- Place within the split.
  ordinal int NOT NULL,
  id uuid NOT NULL,
  group_key text COLLATE "C" NOT NULL,
  -- Same prompt, same link: what the leakage check compares beside the groups.
  prompt_link text,
  -- The example as readers get it; its text is the line that is hashed.
  example jsonb NOT NULL,
  line_hash bytea NOT NULL,
  PRIMARY KEY (project_id, version_id, split, ordinal)
);
CREATE UNIQUE INDEX version_examples_id ON version_examples (project_id, version_id, id);
SELECT tl_tenant('version_examples');

-- One prompt a group of the test split: what fresh samples are asked for.
CREATE TABLE version_test_prompts (
  project_id uuid NOT NULL,
  version_id uuid NOT NULL,
  ordinal int NOT NULL,
  group_key text COLLATE "C" NOT NULL,
  prompt jsonb NOT NULL,
  PRIMARY KEY (project_id, version_id, ordinal)
);
SELECT tl_tenant('version_test_prompts');

-- What is frozen stays as it is: the service has no right to change it, and rows cannot join a version that is there.
REVOKE UPDATE, DELETE ON dataset_versions, version_examples, version_test_prompts FROM tl_datasets;

-- A transaction says which new version it makes; its rows are the only ones that are taken. The version's own row is
-- written last, so that nobody sees a version in the making.
CREATE FUNCTION begin_version(version uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM dataset_versions WHERE id = version) THEN
    RAISE EXCEPTION 'dataset version % is frozen', version USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('tl.freezing', version::text, true);
END $$;

CREATE FUNCTION refuse_rows_of_frozen_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'dataset version % is frozen', NEW.version_id USING ERRCODE = 'check_violation';
END $$;
-- The condition alone costs nothing; a lookup in the function would be paid a million times.
CREATE TRIGGER version_examples_frozen BEFORE INSERT ON version_examples FOR EACH ROW
  WHEN (NEW.version_id::text IS DISTINCT FROM current_setting('tl.freezing', true))
  EXECUTE FUNCTION refuse_rows_of_frozen_version();
CREATE TRIGGER version_test_prompts_frozen BEFORE INSERT ON version_test_prompts FOR EACH ROW
  WHEN (NEW.version_id::text IS DISTINCT FROM current_setting('tl.freezing', true))
  EXECUTE FUNCTION refuse_rows_of_frozen_version();
REVOKE ALL ON FUNCTION begin_version(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION begin_version(uuid) TO tl_datasets;

-- A version to be made: leased work. Its id is the training request's, or its own when a person asked.
CREATE TABLE freezes (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  dataset_id uuid NOT NULL,
  kind text NOT NULL,
  spec jsonb NOT NULL,
  -- Whether a training request waits for the event.
  announced boolean NOT NULL,
  correlation_id uuid,
  causation_id uuid,
  requested_by text NOT NULL,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'ready', 'insufficient', 'failed')),
  code text,
  reason text,
  dataset_version_id uuid,
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_owner text,
  lease_epoch int NOT NULL DEFAULT 0,
  lease_until timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz,
  PRIMARY KEY (project_id, id)
);
CREATE INDEX freezes_due ON freezes (due_at) WHERE status = 'pending';
CREATE INDEX freezes_dataset ON freezes (project_id, dataset_id, created_at DESC);
SELECT tl_tenant('freezes');

CREATE FUNCTION claim_freezes(owner text, lease_ms int, max_rows int)
RETURNS TABLE (id uuid, project_id uuid, epoch int)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  UPDATE freezes f SET lease_owner = owner, lease_epoch = f.lease_epoch + 1,
    lease_until = now() + make_interval(secs => lease_ms::float8 / 1000)
  FROM (
    SELECT d.project_id, d.id FROM freezes d
    WHERE d.status = 'pending' AND d.due_at <= now() AND (d.lease_until IS NULL OR d.lease_until < now())
    ORDER BY d.due_at LIMIT max_rows FOR UPDATE SKIP LOCKED
  ) due
  WHERE f.project_id = due.project_id AND f.id = due.id
  RETURNING f.id, f.project_id, f.lease_epoch
$$;
REVOKE ALL ON FUNCTION claim_freezes(text, int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_freezes(text, int, int) TO tl_datasets;
