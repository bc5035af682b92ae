CREATE TABLE documents (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  session_id uuid,
  intake_id uuid,
  name text NOT NULL,
  blob_key text NOT NULL,
  sha256 text NOT NULL,
  content_type text NOT NULL,
  size int NOT NULL,
  metadata jsonb NOT NULL,
  provenance jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX documents_newest ON documents (project_id, id DESC);
CREATE INDEX documents_session ON documents (session_id, id DESC) WHERE session_id IS NOT NULL;
CREATE INDEX documents_blob ON documents (blob_key);
SELECT tl_tenant('documents');

-- Items that came by event, or by URL with a session: leased rows, since reading one may be slow and a held message
-- must not be. `item` is what the sender said; an inline file is taken out of it when the row is settled.
CREATE TABLE intake_fetches (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('image', 'document')),
  origin text NOT NULL CHECK (origin IN ('intake', 'session')),
  session_id uuid,
  item jsonb NOT NULL,
  actor text NOT NULL,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done', 'failed')),
  attempts int NOT NULL DEFAULT 0,
  last_error text,
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_owner text,
  lease_epoch int NOT NULL DEFAULT 0,
  lease_until timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz
);
CREATE INDEX intake_fetches_due ON intake_fetches (project_id, due_at) WHERE status = 'pending';
CREATE INDEX intake_fetches_session ON intake_fetches (session_id) WHERE session_id IS NOT NULL AND status = 'pending';
CREATE INDEX intake_fetches_settled ON intake_fetches (settled_at) WHERE status <> 'pending';
SELECT tl_tenant('intake_fetches');

-- Due fetches, a few of each project in turn: a project that has sent a thousand URLs does not make the others wait.
-- The projects are found by a loose scan of the index, one probe each.
CREATE FUNCTION claim_intake_fetches(owner text, lease_ms int, max_rows int)
RETURNS TABLE (id uuid, project_id uuid, epoch int)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  WITH RECURSIVE tenants AS (
    (SELECT f.project_id FROM intake_fetches f WHERE f.status = 'pending' ORDER BY f.project_id LIMIT 1)
    UNION ALL
    SELECT (SELECT f.project_id FROM intake_fetches f
            WHERE f.status = 'pending' AND f.project_id > t.project_id ORDER BY f.project_id LIMIT 1)
    FROM tenants t WHERE t.project_id IS NOT NULL
  ), due AS (
    SELECT next.id FROM tenants t CROSS JOIN LATERAL (
      SELECT f.id FROM intake_fetches f
      WHERE f.status = 'pending' AND f.project_id = t.project_id AND f.due_at <= now()
        AND (f.lease_until IS NULL OR f.lease_until < now())
      ORDER BY f.due_at LIMIT 2 FOR UPDATE SKIP LOCKED
    ) next
    ORDER BY random() LIMIT max_rows
  )
  UPDATE intake_fetches f SET lease_owner = owner, lease_epoch = f.lease_epoch + 1, attempts = f.attempts + 1,
    lease_until = now() + make_interval(secs => lease_ms::float8 / 1000)
  FROM due WHERE f.id = due.id
  RETURNING f.id, f.project_id, f.lease_epoch
$$;

CREATE FUNCTION prune_intake_fetches(keep interval, max_rows int) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  WITH removed AS (
    DELETE FROM intake_fetches WHERE id IN (
      SELECT f.id FROM intake_fetches f
      WHERE f.status <> 'pending' AND f.settled_at < now() - keep ORDER BY f.settled_at LIMIT max_rows)
    RETURNING 1
  ) SELECT count(*) FROM removed
$$;

REVOKE ALL ON FUNCTION claim_intake_fetches(text, int, int), prune_intake_fetches(interval, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_intake_fetches(text, int, int), prune_intake_fetches(interval, int) TO tl_ingest;
