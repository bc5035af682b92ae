-- What this service knows of the projects: a projection of project.changed, whole and version-ordered.
CREATE TABLE projects (
  project_id uuid PRIMARY KEY,
  slug text NOT NULL,
  version int NOT NULL,
  settings jsonb NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now()
);
SELECT tl_tenant('projects');
