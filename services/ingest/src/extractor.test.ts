import { readFile } from 'node:fs/promises';
import { deflateRawSync } from 'node:zlib';
import { createLog } from '@tuneloop/runtime/log';
import { describe, expect, it } from 'vitest';
import { DOCUMENT_TYPES } from './domain/documentType.ts';
import { Extractor } from './extractor.ts';
import { zipOf } from '../test/documents.ts';

const log = createLog({ level: 'silent' });
const job = (contentType: string) => ({ contentType, chunkTokens: 200, overlapTokens: 0, tokenizer: null });
const signal = new AbortController().signal;
const extractor = new Extractor({ memoryMb: 512, timeoutMs: 60_000, log });
const fixture = (name: string): Promise<Buffer> => readFile(new URL(`../fixtures/${name}`, import.meta.url));

describe('a document in a process of its own', () => {
  it('comes back in measured chunks', async () => {
    const read = await extractor.extract(await fixture('coffee-columns.pdf'), job(DOCUMENT_TYPES.pdf), signal);
    expect(read).toMatchObject({ title: 'Handbook of coffee', pages: 1 });
    expect(read.chunks.at(-1)).toMatchObject({
      text: expect.stringContaining('grind them without thawing.'),
      flags: [],
      pageFrom: 1,
    });
  });

  it('is stopped when it takes too long, and the reason names the fix', async () => {
    const slow = new Extractor({ memoryMb: 512, timeoutMs: 1, log });
    await expect(slow.extract(Buffer.from('text'), job(DOCUMENT_TYPES.text), signal)).rejects.toMatchObject({
      code: 'too_slow',
      message: expect.stringContaining('split it'),
    });
  });

  it('is stopped when it takes too much memory', async () => {
    const small = new Extractor({ memoryMb: 128, timeoutMs: 60_000, log });
    const html = Buffer.from('<div><p>word <b>bold</b></p></div>'.repeat(500_000));
    await expect(small.extract(html, job(DOCUMENT_TYPES.html), signal)).rejects.toMatchObject({ code: 'too_large' });
  });

  it('refuses a DOCX that unpacks to far more than it says', async () => {
    const bomb = zipOf({
      'word/document.xml': { packed: deflateRawSync(Buffer.alloc(200 * 1024 * 1024)), size: 1_000 },
    });
    expect(bomb.length).toBeLessThan(300_000);
    await expect(extractor.extract(bomb, job(DOCUMENT_TYPES.docx), signal)).rejects.toMatchObject({
      code: 'unpacked_too_large',
    });
  });

  it('survives markup that is nested without end', async () => {
    const html = Buffer.from('<div>'.repeat(200_000));
    const code = expect.stringMatching(/^(?:too_deep|no_text|too_large)$/);
    await expect(extractor.extract(html, job(DOCUMENT_TYPES.html), signal)).rejects.toMatchObject({ code });
  });

  it('stops at once when nobody wants it any more', async () => {
    const stop = new AbortController();
    const reading = extractor.extract(await fixture('tides.pdf'), job(DOCUMENT_TYPES.pdf), stop.signal);
    stop.abort(new Error('taken over'));
    await expect(reading).rejects.toThrow();
  });
});
