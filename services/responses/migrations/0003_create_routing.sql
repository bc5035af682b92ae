-- What serves in each slot: a projection of deployment.changed, whole and version-ordered.
CREATE TABLE deployments (
  project_id uuid NOT NULL,
  slot text NOT NULL,
  version int NOT NULL,
  targets jsonb NOT NULL,
  changed_at timestamptz NOT NULL,
  PRIMARY KEY (project_id, slot)
);
SELECT tl_tenant('deployments');

-- Projects whose deployments were asked of the trainer once; from then on events keep them.
CREATE TABLE deployment_syncs (
  project_id uuid PRIMARY KEY,
  synced_at timestamptz NOT NULL DEFAULT now()
);
SELECT tl_tenant('deployment_syncs');

-- Fine-tuned models by name: a projection of checkpoint.created.
CREATE TABLE tuned_models (
  checkpoint_id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  model_name text NOT NULL,
  base_model text NOT NULL,
  storage_key text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz
);
CREATE UNIQUE INDEX tuned_models_name ON tuned_models (project_id, model_name);
SELECT tl_tenant('tuned_models');

CREATE TABLE model_aliases (
  project_id uuid NOT NULL,
  alias text NOT NULL,
  target jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, alias)
);
SELECT tl_tenant('model_aliases');
