-- What one run of a scraper brought.
CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  name text,
  url text,
  category text,
  user_id text,
  licence text,
  consent text,
  generate boolean,
  metadata jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sessions_newest ON sessions (project_id, id DESC);
SELECT tl_tenant('sessions');

-- `sha256` is of the stored, re-encoded file; `source_sha256` of the bytes that came, so that the same bytes are known
-- again whatever the encoder's version. `band0..3` are 16 bits each of the perceptual hash: two hashes that differ in
-- at most 3 bits agree in at least one of them, so near-duplicates are found by four index look-ups.
CREATE TABLE images (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  session_id uuid,
  -- The intake item it came as, so that an erased one is not taken again.
  intake_id uuid,
  user_id text NOT NULL,
  category text NOT NULL,
  alt_text text,
  file_name text NOT NULL,
  path text NOT NULL,
  blob_key text NOT NULL,
  sha256 text NOT NULL,
  source_sha256 text NOT NULL,
  content_type text NOT NULL,
  size int NOT NULL,
  quality float8 NOT NULL CHECK (quality BETWEEN 0 AND 1),
  facts jsonb NOT NULL,
  duplicate_of uuid,
  cluster_id uuid NOT NULL,
  dhash bigint NOT NULL,
  band0 int NOT NULL,
  band1 int NOT NULL,
  band2 int NOT NULL,
  band3 int NOT NULL,
  colour_grid bytea NOT NULL,
  metadata jsonb NOT NULL,
  provenance jsonb NOT NULL,
  generate boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (project_id, path)
);
CREATE INDEX images_newest ON images (project_id, id DESC);
CREATE INDEX images_session ON images (session_id, id DESC) WHERE session_id IS NOT NULL;
CREATE INDEX images_source ON images (project_id, source_sha256, id);
CREATE INDEX images_blob ON images (blob_key);
CREATE INDEX images_cluster ON images (cluster_id);
CREATE INDEX images_duplicate_of ON images (duplicate_of) WHERE duplicate_of IS NOT NULL;
CREATE INDEX images_band0 ON images (project_id, band0, id);
CREATE INDEX images_band1 ON images (project_id, band1, id);
CREATE INDEX images_band2 ON images (project_id, band2, id);
CREATE INDEX images_band3 ON images (project_id, band3, id);
SELECT tl_tenant('images');

-- What was refused. Nothing of the item is kept but where it came from and why.
CREATE TABLE rejections (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  session_id uuid,
  source text NOT NULL,
  code text NOT NULL,
  field text,
  reason text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX rejections_session ON rejections (session_id, id DESC) WHERE session_id IS NOT NULL;
SELECT tl_tenant('rejections');

-- Blobs that may have no owner: one row per attempt to store one, written before the blob and deleted with the commit
-- that refers to it; and one per erasure. What is still here when due is looked at, and deleted if nothing refers to it.
CREATE TABLE blob_sweeps (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  blob_key text NOT NULL,
  due_at timestamptz NOT NULL
);
CREATE INDEX blob_sweeps_due ON blob_sweeps (due_at);
SELECT tl_tenant('blob_sweeps');

CREATE FUNCTION due_blob_sweeps(at timestamptz, max_rows int) RETURNS TABLE (id uuid, project_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT s.id, s.project_id FROM blob_sweeps s WHERE s.due_at <= at ORDER BY s.due_at LIMIT max_rows
$$;

REVOKE ALL ON FUNCTION due_blob_sweeps(timestamptz, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION due_blob_sweeps(timestamptz, int) TO tl_ingest;
