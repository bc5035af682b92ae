-- What datasets knows of documents: taken over from ingest when a version is frozen, a document at a time and whole.
CREATE TABLE documents (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  version int NOT NULL,
  name text NOT NULL,
  title text,
  cluster_id uuid NOT NULL,
  provenance jsonb NOT NULL,
  PRIMARY KEY (project_id, id)
);
SELECT tl_tenant('documents');

CREATE TABLE chunks (
  project_id uuid NOT NULL,
  id uuid NOT NULL,
  document_id uuid NOT NULL,
  ordinal int NOT NULL,
  heading_path jsonb NOT NULL,
  text text NOT NULL,
  -- Characters at the beginning that repeat the chunk before.
  overlap_chars int NOT NULL,
  quality float8 NOT NULL,
  flagged boolean NOT NULL,
  duplicate boolean NOT NULL,
  PRIMARY KEY (project_id, id)
);
CREATE UNIQUE INDEX chunks_document ON chunks (project_id, document_id, ordinal);
SELECT tl_tenant('chunks');

-- What a model wrote from a chunk, kept so that a version made again, or after a part failed, pays for nothing twice.
-- The recipe is a hash of all that the writing depends on beside the chunk.
CREATE TABLE chunk_pairs (
  project_id uuid NOT NULL,
  chunk_id uuid NOT NULL,
  recipe text NOT NULL,
  pairs jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, chunk_id, recipe)
);
SELECT tl_tenant('chunk_pairs');

-- Which versions held examples of an erased item, and how many.
CREATE TABLE version_erasures (
  project_id uuid NOT NULL,
  item_id uuid NOT NULL,
  version_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('image', 'document')),
  examples int NOT NULL,
  erased_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, item_id, version_id)
);
CREATE INDEX version_erasures_version ON version_erasures (project_id, version_id);
SELECT tl_tenant('version_erasures');

CREATE INDEX version_examples_document ON version_examples (project_id, (example->'lineage'->>'document_id'))
  WHERE example->'lineage'->>'document_id' IS NOT NULL;
CREATE INDEX version_examples_image ON version_examples (project_id, (example->'lineage'->>'image_id'))
  WHERE example->'lineage'->>'image_id' IS NOT NULL;

-- The one way by which a row leaves a frozen version: what it was made from is erased. The service itself may delete none.
CREATE FUNCTION erase_version_rows(item_kind text, item uuid) RETURNS TABLE (version_id uuid, examples int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  tenant uuid := current_setting('tl.project')::uuid;
BEGIN
  IF item_kind = 'image' THEN
    DELETE FROM version_test_prompts p WHERE p.project_id = tenant AND p.prompt->>'image_id' = item::text;
    RETURN QUERY WITH gone AS (
      DELETE FROM version_examples e WHERE e.project_id = tenant AND e.example->'lineage'->>'image_id' = item::text
      RETURNING e.version_id) SELECT g.version_id, count(*)::int FROM gone g GROUP BY g.version_id;
  ELSIF item_kind = 'document' THEN
    DELETE FROM version_test_prompts p WHERE p.project_id = tenant AND p.prompt->>'document_id' = item::text;
    RETURN QUERY WITH gone AS (
      DELETE FROM version_examples e WHERE e.project_id = tenant AND e.example->'lineage'->>'document_id' = item::text
      RETURNING e.version_id) SELECT g.version_id, count(*)::int FROM gone g GROUP BY g.version_id;
  ELSE
    RAISE EXCEPTION 'unknown kind %', item_kind;
  END IF;
END $$;
REVOKE ALL ON FUNCTION erase_version_rows(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_version_rows(text, uuid) TO tl_datasets;
