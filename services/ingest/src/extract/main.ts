import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import { bandKeys, minHash, shinglesOf, wordsOf } from '@tuneloop/metrics/minhash';
import { type Chunk, chunkBlocks } from '../domain/chunking.ts';
import { DOCUMENT_TYPES } from '../domain/documentType.ts';
import { injectionFlags } from '@tuneloop/metrics/injection';
import { qualityScore, textQuality } from '../domain/textQuality.ts';
import { type Block, DocumentError, type Extraction, MAX_CHARS, tooLong } from './blocks.ts';
import { extractHtml, extractMarkdown, extractText } from './markup.ts';
import { type ExtractJob, type ExtractResult, extractJob } from './protocol.ts';

/**
 * The process that reads one document: bytes on standard input, the job as its argument, the chunks on standard output.
 * It holds no secret, opens no connection and may write nowhere; whoever started it kills it when it takes too much.
 */
/** Bytes of a token where no tokenizer is known: fewer than any common one has in any language, so chunks stay below. */
const ESTIMATED_TOKEN_BYTES = 3;

const job = extractJob.parse(JSON.parse(process.argv[2] ?? ''));
process.stdout.write(JSON.stringify(await run(job, await buffer(process.stdin))));

async function run(given: ExtractJob, bytes: Buffer): Promise<ExtractResult> {
  try {
    const extraction = await extract(given.contentType, bytes);
    const chars = extraction.blocks.reduce((sum, block) => sum + charsOf(block), 0);
    if (chars > MAX_CHARS) throw tooLong();
    if (chars === 0) {
      throw new DocumentError('no_text', 'the document has no text; upload one that has, or the page that it leads to');
    }
    const chunks = chunkBlocks(extraction.blocks, {
      maxTokens: given.chunkTokens,
      overlapTokens: given.overlapTokens,
      countTokens: await counter(given.tokenizer),
    });
    return { ok: true, title: extraction.title, pages: extraction.pages, chars, chunks: chunks.map(measured) };
  } catch (error) {
    if (error instanceof DocumentError) return { ok: false, code: error.code, message: error.message };
    if (error instanceof RangeError) {
      return { ok: false, code: 'too_deep', message: 'the document is nested too deeply; save it in a simpler form' };
    }
    // What a parser of untrusted bytes throws is the document's fault until shown otherwise; the text goes to the log.
    process.stderr.write(String(error instanceof Error ? error.stack : error));
    return {
      ok: false,
      code: 'broken',
      message: 'the document cannot be read; open it, save it again and upload that',
    };
  }
}

async function extract(contentType: string, bytes: Buffer): Promise<Extraction> {
  // The process reads one document: what the others need is not loaded.
  if (contentType === DOCUMENT_TYPES.pdf) return (await import('./pdf.ts')).extractPdf(new Uint8Array(bytes));
  if (contentType === DOCUMENT_TYPES.docx) return (await import('./docx.ts')).extractDocx(bytes);
  const text = bytes.toString('utf8').replace(/^\uFEFF/, '');
  if (contentType === DOCUMENT_TYPES.html) return extractHtml(text);
  return contentType === DOCUMENT_TYPES.markdown ? extractMarkdown(text) : extractText(text);
}

async function counter(folder: string | null): Promise<(text: string) => number> {
  if (folder === null) return (text) => Math.ceil(Buffer.byteLength(text) / ESTIMATED_TOKEN_BYTES);
  const tokenizer = await loadTokenizerFolder(folder);
  return (text) => tokenizer.encode(text).length;
}

function measured(chunk: Chunk): Extract<ExtractResult, { ok: true }>['chunks'][number] {
  const text = storable(chunk.text);
  // What is repeated of the chunk before does not make the two alike.
  const own = text.slice(chunk.overlapChars);
  const shingles = shinglesOf(own);
  const quality = textQuality(text);
  return {
    headingPath: chunk.headingPath.map(storable),
    text,
    overlapChars: chunk.overlapChars,
    tokens: chunk.tokens,
    pageFrom: chunk.pageFrom,
    pageTo: chunk.pageTo,
    quality: qualityScore(quality),
    qualityParts: quality,
    flags: injectionFlags(`${chunk.headingPath.join('\n')}\n${text}`),
    textHash: createHash('sha256')
      .update(wordsOf(own).join(' ') || own)
      .digest('hex'),
    keys: shingles.size === 0 ? [] : bandKeys(minHash(shingles)),
  };
}

function charsOf(block: Block): number {
  if (block.kind === 'table') return block.rows.reduce((sum, row) => sum + row.join('').length, 0);
  return block.kind === 'list' ? block.items.join('').length : block.text.length;
}

/** Postgres keeps no NUL and JSON no half of a character. */
function storable(text: string): string {
  return text.replaceAll('\0', '').toWellFormed();
}
