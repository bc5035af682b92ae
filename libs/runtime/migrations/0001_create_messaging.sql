-- Messaging tables that every service schema has. Run once per schema, as its owner role, search_path set to it.

-- Makes a table a tenant's: forced row level security by the transaction's project, DML for the service role.
-- The owner's policy lets narrow SECURITY DEFINER functions (claims, relays) see every tenant; nothing logs in as owner.
CREATE FUNCTION tl_tenant(target regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  owner_role text := (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = target);
  service_role text := regexp_replace(owner_role, '_owner$', '');
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
  EXECUTE format(
    'CREATE POLICY tenant ON %s FOR ALL TO %I
       USING (project_id = nullif(current_setting(''tl.project'', true), '''')::uuid)
       WITH CHECK (project_id = nullif(current_setting(''tl.project'', true), '''')::uuid)', target, service_role);
  EXECUTE format('CREATE POLICY owner_all ON %s FOR ALL TO %I USING (true) WITH CHECK (true)', target, owner_role);
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', target, service_role);
END $$;

-- Facts to publish. A row commits with the state it tells of; the relay publishes it and notes where it landed.
-- stream_seq lets the relay find out after a restart of NATS whether the stream has lost its tail.
CREATE TABLE outbox (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  seq bigint GENERATED ALWAYS AS IDENTITY,
  stream text NOT NULL,
  subject text NOT NULL,
  headers jsonb NOT NULL,
  body jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  published_at timestamptz,
  stream_seq bigint
);
CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL;
CREATE INDEX outbox_tail ON outbox (stream, stream_seq) WHERE stream_seq IS NOT NULL;
CREATE INDEX outbox_published_at ON outbox (published_at) WHERE published_at IS NOT NULL;
CREATE INDEX outbox_correlation ON outbox (project_id, (headers->>'ce-correlationid')) WHERE headers ? 'ce-correlationid';
SELECT tl_tenant('outbox');

CREATE TABLE inbox (
  consumer text NOT NULL,
  event_id uuid NOT NULL,
  project_id uuid NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, event_id)
);
CREATE INDEX inbox_received_at ON inbox (received_at);
SELECT tl_tenant('inbox');

CREATE TABLE dead_letters (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  consumer text NOT NULL,
  event_id uuid,
  subject text NOT NULL,
  headers jsonb NOT NULL,
  body text NOT NULL,
  code text NOT NULL,
  error text NOT NULL,
  deliveries int NOT NULL,
  status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'replayed', 'dropped')),
  created_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz,
  UNIQUE (consumer, event_id)
);
CREATE INDEX dead_letters_open ON dead_letters (project_id, created_at DESC) WHERE status = 'open';
SELECT tl_tenant('dead_letters');

-- Answers of keyed POSTs, replayed to a client that retries.
CREATE TABLE idempotency (
  project_id uuid NOT NULL,
  key text NOT NULL,
  operation text NOT NULL,
  request_hash bytea NOT NULL,
  status int,
  response jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, key, operation)
);
CREATE INDEX idempotency_created_at ON idempotency (created_at);
SELECT tl_tenant('idempotency');

-- What was erased, so that a replayed event does not bring it back.
CREATE TABLE tombstones (
  project_id uuid NOT NULL,
  kind text NOT NULL,
  id uuid NOT NULL,
  erased_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, kind, id)
);
SELECT tl_tenant('tombstones');

-- Relay, step one: which rows of which project are due. The rows stay locked until the relay's transaction ends, so
-- relays of several replicas never publish the same row at the same time.
CREATE FUNCTION outbox_claim(max_rows int) RETURNS TABLE (id uuid, project_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT o.id, o.project_id FROM outbox o WHERE o.published_at IS NULL ORDER BY o.seq LIMIT max_rows
  FOR UPDATE SKIP LOCKED
$$;

CREATE FUNCTION outbox_pending() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT count(*) FROM (SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 100000) due
$$;

-- Positions for the search of a lost tail: the newest published row at or below a stream sequence.
CREATE FUNCTION outbox_tail(of_stream text, at_most bigint) RETURNS TABLE (id uuid, stream_seq bigint)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT o.id, o.stream_seq FROM outbox o
  WHERE o.stream = of_stream AND o.stream_seq <= at_most ORDER BY o.stream_seq DESC LIMIT 1
$$;

CREATE FUNCTION outbox_republish(of_stream text, after_seq bigint) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  WITH again AS (
    UPDATE outbox SET published_at = NULL, stream_seq = NULL
    WHERE stream = of_stream AND stream_seq > after_seq RETURNING 1
  ) SELECT count(*) FROM again
$$;

-- Retention, in bounded steps.
CREATE FUNCTION messaging_prune(keep interval, max_rows int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  removed bigint := 0;
  n bigint;
BEGIN
  DELETE FROM outbox WHERE id IN (
    SELECT o.id FROM outbox o WHERE o.published_at < now() - keep ORDER BY o.published_at LIMIT max_rows);
  GET DIAGNOSTICS n = ROW_COUNT; removed := removed + n;
  DELETE FROM inbox WHERE (consumer, event_id) IN (
    SELECT i.consumer, i.event_id FROM inbox i WHERE i.received_at < now() - keep LIMIT max_rows);
  GET DIAGNOSTICS n = ROW_COUNT; removed := removed + n;
  DELETE FROM idempotency WHERE (project_id, key, operation) IN (
    SELECT k.project_id, k.key, k.operation FROM idempotency k
    WHERE k.created_at < now() - interval '24 hours' LIMIT max_rows);
  GET DIAGNOSTICS n = ROW_COUNT; removed := removed + n;
  RETURN removed;
END $$;

DO $$
DECLARE
  service_role text := regexp_replace(current_user, '_owner$', '');
BEGIN
  EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %I FROM PUBLIC', current_schema());
  EXECUTE format(
    'GRANT EXECUTE ON FUNCTION outbox_claim(int), outbox_pending(), outbox_tail(text, bigint),
       outbox_republish(text, bigint), messaging_prune(interval, int) TO %I', service_role);
END $$;
