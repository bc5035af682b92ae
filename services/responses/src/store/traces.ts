import type { Tx } from '@tuneloop/runtime/pg/database';
import { immutableName, type ModelTarget } from '../domain/target.ts';
import { storableText } from '../domain/storable.ts';

export type TraceKind = 'chat' | 'candidates' | 'generate';

export interface TraceRow {
  id: string;
  project_id: string;
  kind: TraceKind;
  status: 'open' | 'done' | 'failed' | 'cut_off';
  instance: string;
  provider: string;
  model: string;
  checkpoint_id: string | null;
  slot: string | null;
  user_id: string | null;
  prompt_id: string | null;
  prompt_version: number | null;
  prompt_tokens: number;
  completion_tokens: number;
  cost_usd: number;
  latency_ms: number | null;
  first_token_ms: number | null;
  error: string | null;
  started_at: Date;
  finished_at: Date | null;
}

export interface OpenTrace {
  readonly id: string;
  readonly kind: TraceKind;
  readonly instance: string;
  readonly target: ModelTarget;
  readonly userId: string | null;
  readonly promptId?: string | undefined;
  readonly promptVersion?: number | null | undefined;
}

/** The small insert before the first byte. */
export async function openTrace(tx: Tx, trace: OpenTrace): Promise<void> {
  const { target } = trace;
  await tx.execute(
    `INSERT INTO traces (id, project_id, kind, instance, provider, model, checkpoint_id, slot, user_id, prompt_id,
       prompt_version)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
    [
      trace.id,
      tx.projectId,
      trace.kind,
      trace.instance,
      target.provider,
      immutableName(target),
      target.checkpointId,
      target.slot,
      trace.userId,
      trace.promptId ?? null,
      trace.promptVersion ?? null,
    ],
  );
}

export interface TraceEnd {
  readonly status: 'done' | 'failed' | 'cut_off';
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly costUsd: number;
  readonly latencyMs: number;
  readonly firstTokenMs: number | null;
  readonly error: string | null;
}

const MAX_ERROR_CHARS = 1_000;

/** Ends an open trace. False when the sweeper (or an earlier attempt) has ended it already. */
export async function closeTrace(tx: Tx, id: string, end: TraceEnd): Promise<boolean> {
  const closed = await tx.execute(
    `UPDATE traces SET status = $2, prompt_tokens = $3, completion_tokens = $4, cost_usd = $5, latency_ms = $6,
       first_token_ms = $7, error = $8, finished_at = now()
     WHERE id = $1 AND status IN ('open', 'cut_off')`,
    [
      id,
      end.status,
      end.promptTokens,
      end.completionTokens,
      end.costUsd,
      end.latencyMs,
      end.firstTokenMs,
      end.error === null ? null : storableText(end.error).slice(0, MAX_ERROR_CHARS),
    ],
  );
  return closed === 1;
}

export async function findTrace(tx: Tx, id: string): Promise<TraceRow | undefined> {
  return tx.one<TraceRow>('SELECT * FROM traces WHERE id = $1', [id]);
}

/** Marks traces whose process died, over all projects. Returns how many. */
export async function sweepTraces(tx: Tx, olderThanSeconds: number, maxRows: number): Promise<number> {
  const row = await tx.one<{ swept: number }>('SELECT sweep_traces(make_interval(secs => $1), $2) AS swept', [
    olderThanSeconds,
    maxRows,
  ]);
  return row?.swept ?? 0;
}
