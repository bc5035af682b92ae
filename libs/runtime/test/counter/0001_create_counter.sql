CREATE TABLE counted (
  project_id uuid NOT NULL,
  code text NOT NULL,
  times int NOT NULL DEFAULT 1,
  PRIMARY KEY (project_id, code)
);
SELECT tl_tenant('counted');

CREATE TABLE chores (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  done_by text,
  lease_owner text,
  lease_epoch int NOT NULL DEFAULT 0,
  lease_until timestamptz
);
SELECT tl_tenant('chores');

CREATE FUNCTION claim_chores(owner text, lease_ms int, max_rows int) RETURNS TABLE (id uuid, project_id uuid, epoch int)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  UPDATE chores SET lease_owner = owner, lease_epoch = lease_epoch + 1,
    lease_until = now() + make_interval(secs => lease_ms::float8 / 1000)
  WHERE chores.id IN (
    SELECT c.id FROM chores c WHERE c.done_by IS NULL AND (c.lease_until IS NULL OR c.lease_until < now())
    LIMIT max_rows FOR UPDATE SKIP LOCKED)
  RETURNING chores.id, chores.project_id, chores.lease_epoch
$$;
GRANT EXECUTE ON FUNCTION claim_chores(text, int, int) TO tl_ingest;
