import type { provenance } from '@tuneloop/contracts/ingest/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';

export interface DocumentRow {
  readonly id: string;
  readonly session_id: string | null;
  readonly intake_id: string | null;
  readonly name: string;
  readonly blob_key: string;
  readonly sha256: string;
  readonly content_type: string;
  readonly size: number;
  readonly metadata: Record<string, unknown>;
  readonly provenance: z.output<typeof provenance>;
}

export async function insertDocument(tx: Tx, row: DocumentRow): Promise<void> {
  await tx.execute(
    `INSERT INTO documents (id, project_id, session_id, intake_id, name, blob_key, sha256, content_type, size, metadata,
       provenance) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
    [
      row.id,
      tx.projectId,
      row.session_id,
      row.intake_id,
      row.name,
      row.blob_key,
      row.sha256,
      row.content_type,
      row.size,
      JSON.stringify(row.metadata),
      JSON.stringify(row.provenance),
    ],
  );
}
