import type { ResponseRecord } from '@tuneloop/contracts/responses/events';
import { deterministicId } from '@tuneloop/runtime/ids';

/** What the answers to one prompt share: the prompt's id, or else a hash of what was asked and about which image. */
export function promptKey(record: Pick<ResponseRecord, 'prompt_id' | 'prompt' | 'messages' | 'image_id'>): string {
  if (record.prompt_id !== null) return record.prompt_id;
  const asked = record.messages === null ? record.prompt : JSON.stringify(record.messages);
  return deterministicId('prompt', asked, record.image_id ?? '');
}
