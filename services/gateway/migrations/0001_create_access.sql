-- The projection table that every service has is the truth here.
ALTER TABLE projects ADD COLUMN name text NOT NULL DEFAULT '';
ALTER TABLE projects ADD COLUMN created_at timestamptz NOT NULL DEFAULT now();
CREATE UNIQUE INDEX projects_slug ON projects (slug);

CREATE TABLE api_keys (
  id text PRIMARY KEY,
  project_id uuid NOT NULL REFERENCES projects (project_id),
  name text NOT NULL,
  hash bytea NOT NULL,
  role text NOT NULL CHECK (role IN ('owner', 'engineer', 'reviewer', 'viewer')),
  created_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);
CREATE INDEX api_keys_project ON api_keys (project_id, created_at);
SELECT tl_tenant('api_keys');

CREATE TABLE audit_log (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  actor text NOT NULL,
  action text NOT NULL,
  subject text NOT NULL,
  detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_project ON audit_log (project_id, id DESC);
SELECT tl_tenant('audit_log');

-- A key arrives before its project is known: one row by its public id, and a coarse note of use.
CREATE FUNCTION find_api_key(key_id text) RETURNS TABLE (
  project_id uuid, hash bytea, role text, expires_at timestamptz, revoked_at timestamptz)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  WITH used AS (
    UPDATE api_keys SET last_used_at = now()
    WHERE id = key_id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute'))
  SELECT k.project_id, k.hash, k.role, k.expires_at, k.revoked_at FROM api_keys k WHERE k.id = key_id
$$;

-- Slugs are unique over all tenants: whether one is taken, and by which project.
CREATE FUNCTION find_project_by_slug(wanted text) RETURNS uuid
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT project_id FROM projects WHERE slug = wanted
$$;

REVOKE ALL ON FUNCTION find_api_key(text), find_project_by_slug(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_api_key(text), find_project_by_slug(text) TO tl_gateway;
