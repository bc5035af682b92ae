import { newId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';

/** Names of the two intake consumers, without the service; dead letters are kept under them. */
export const INTAKE_CONSUMERS = { image: 'intake_image', document: 'intake_document' } as const;

export interface IntakeDeadLetter {
  readonly consumer: string;
  /** The intake key: equal for every copy of the item. */
  readonly eventId: string;
  readonly subject: string;
  readonly body: string;
  readonly code: string;
  readonly error: string;
  readonly deliveries: number;
}

/**
 * Keeps an item that was taken and then could not be had, for operators to replay or drop; and forgets that it was
 * taken, so that the replay, or the sender's next try under the same id, is handled anew.
 */
export async function insertIntakeDeadLetter(tx: Tx, letter: IntakeDeadLetter): Promise<void> {
  await tx.execute(
    `INSERT INTO dead_letters (id, project_id, consumer, event_id, subject, headers, body, code, error, deliveries)
     VALUES ($1, $2, $3, $4, $5, '{}', $6, $7, $8, $9)
     ON CONFLICT (consumer, event_id) DO UPDATE SET status = 'open', code = EXCLUDED.code, error = EXCLUDED.error,
       body = EXCLUDED.body, deliveries = EXCLUDED.deliveries`,
    [
      newId(),
      tx.projectId,
      letter.consumer,
      letter.eventId,
      letter.subject,
      letter.body,
      letter.code,
      letter.error,
      letter.deliveries,
    ],
  );
  await tx.execute('DELETE FROM inbox WHERE consumer = $1 AND event_id = $2', [letter.consumer, letter.eventId]);
}
