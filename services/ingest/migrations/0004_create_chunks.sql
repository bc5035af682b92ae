-- Reading a document is leased work on its own row: pending -> ready or failed. `version` grows with each change that
-- others have to know of: chunks made, made anew, or changed because a duplicate was erased.
ALTER TABLE documents
  ADD COLUMN status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'ready', 'failed')),
  ADD COLUMN code text,
  ADD COLUMN reason text,
  ADD COLUMN version int NOT NULL DEFAULT 1,
  ADD COLUMN title text,
  ADD COLUMN pages int,
  ADD COLUMN chars int,
  -- What was asked for; null: the service's setting.
  ADD COLUMN chunk_tokens int,
  ADD COLUMN overlap_tokens int NOT NULL DEFAULT 0,
  ADD COLUMN tokenizer text,
  -- Documents that share chunks; null until read.
  ADD COLUMN cluster_id uuid,
  ADD COLUMN extracted_at timestamptz,
  ADD COLUMN attempts int NOT NULL DEFAULT 0,
  ADD COLUMN due_at timestamptz NOT NULL DEFAULT now(),
  ADD COLUMN lease_owner text,
  ADD COLUMN lease_epoch int NOT NULL DEFAULT 0,
  ADD COLUMN lease_until timestamptz;
CREATE INDEX documents_due ON documents (project_id, due_at) WHERE status = 'pending';
CREATE INDEX documents_cluster ON documents (cluster_id) WHERE cluster_id IS NOT NULL;

CREATE TABLE chunks (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  document_id uuid NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
  -- Place in the document, from 1.
  ordinal int NOT NULL,
  heading_path jsonb NOT NULL,
  text text NOT NULL,
  overlap_chars int NOT NULL,
  tokens int NOT NULL,
  page_from int,
  page_to int,
  text_hash bytea NOT NULL,
  quality float8 NOT NULL CHECK (quality BETWEEN 0 AND 1),
  quality_parts jsonb NOT NULL,
  flags jsonb NOT NULL,
  -- The earlier chunk of the project that says the same, or nearly; one that repeats none itself.
  duplicate_of uuid,
  similarity float8,
  UNIQUE (document_id, ordinal)
);
CREATE INDEX chunks_text_hash ON chunks (project_id, text_hash) WHERE duplicate_of IS NULL;
CREATE INDEX chunks_duplicate_of ON chunks (duplicate_of) WHERE duplicate_of IS NOT NULL;
SELECT tl_tenant('chunks');

-- Bands of MinHash signatures, of chunks that repeat no other. Equality of numbers is what an index can serve under row
-- level security.
CREATE TABLE chunk_bands (
  project_id uuid NOT NULL,
  band_key bigint NOT NULL,
  chunk_id uuid NOT NULL REFERENCES chunks (id) ON DELETE CASCADE,
  PRIMARY KEY (project_id, band_key, chunk_id)
);
CREATE INDEX chunk_bands_chunk ON chunk_bands (chunk_id);
SELECT tl_tenant('chunk_bands');

-- Due documents, a few of each project in turn, as with fetches.
CREATE FUNCTION claim_documents(owner text, lease_ms int, max_rows int)
RETURNS TABLE (id uuid, project_id uuid, epoch int)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  WITH RECURSIVE tenants AS (
    (SELECT d.project_id FROM documents d WHERE d.status = 'pending' ORDER BY d.project_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.project_id FROM documents d
            WHERE d.status = 'pending' AND d.project_id > t.project_id ORDER BY d.project_id LIMIT 1)
    FROM tenants t WHERE t.project_id IS NOT NULL
  ), due AS (
    SELECT next.id FROM tenants t CROSS JOIN LATERAL (
      SELECT d.id FROM documents d
      WHERE d.status = 'pending' AND d.project_id = t.project_id AND d.due_at <= now()
        AND (d.lease_until IS NULL OR d.lease_until < now())
      ORDER BY d.due_at LIMIT 2 FOR UPDATE SKIP LOCKED
    ) next
    ORDER BY random() LIMIT max_rows
  )
  UPDATE documents d SET lease_owner = owner, lease_epoch = d.lease_epoch + 1, attempts = d.attempts + 1,
    lease_until = now() + make_interval(secs => lease_ms::float8 / 1000)
  FROM due WHERE d.id = due.id
  RETURNING d.id, d.project_id, d.lease_epoch
$$;
REVOKE ALL ON FUNCTION claim_documents(text, int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_documents(text, int, int) TO tl_ingest;
