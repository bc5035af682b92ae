-- Uploaded files. The content lies in the blob store, once per project however often it was uploaded.
CREATE TABLE files (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  filename text NOT NULL,
  purpose text NOT NULL,
  bytes bigint NOT NULL,
  sha256 text NOT NULL,
  blob_key text NOT NULL,
  created_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, id)
);
CREATE INDEX files_blob ON files (project_id, blob_key);
SELECT tl_tenant('files');
