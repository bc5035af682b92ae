import { inflateRawSync } from 'node:zlib';
import mammoth from 'mammoth';
import { DocumentError, type Extraction } from './blocks.ts';
import { extractHtml } from './markup.ts';

/** All files of the archive together, unpacked. */
const MAX_UNPACKED_BYTES = 150 * 1024 * 1024;
const MAX_ENTRIES = 5_000;
const END_SIGNATURE = 0x0605_4b50;
const ENTRY_SIGNATURE = 0x0201_4b50;
const LOCAL_SIGNATURE = 0x0403_4b50;
const END_BYTES = 22;
const MAX_COMMENT_BYTES = 65_535;
const STORED = 0;
const DEFLATED = 8;
const ENCRYPTED_FLAG = 1;

/** A Word document by its styles: headings, lists and tables; pictures are left out. */
export async function extractDocx(bytes: Buffer): Promise<Extraction> {
  checkArchive(bytes);
  const result = await mammoth.convertToHtml(
    { buffer: bytes },
    {
      styleMap: ["p[style-name='Title'] => h1.document-title:fresh", "p[style-name='Subtitle'] => p:fresh"],
      convertImage: mammoth.images.imgElement(() => Promise.resolve({ src: '' })),
      externalFileAccess: false,
    },
  );
  const { blocks } = extractHtml(`<main>${result.value}</main>`);
  const titled = /<h1 class="document-title">/.test(result.value);
  const first = blocks.find((block) => block.kind === 'heading');
  if (!titled || first === undefined) return { title: null, pages: null, blocks };
  return { title: first.text, pages: null, blocks: blocks.filter((block) => block !== first) };
}

/**
 * Unpacks every entry once under a limit before anybody else does: what an archive says of its own sizes is the word of
 * whoever made it. @throws DocumentError
 */
function checkArchive(bytes: Buffer): void {
  const end = endOfDirectory(bytes);
  const entries = bytes.readUInt16LE(end + 10);
  if (entries > MAX_ENTRIES) throw bomb();
  let at = bytes.readUInt32LE(end + 16);
  let left = MAX_UNPACKED_BYTES;
  for (let i = 0; i < entries; i++) {
    if (at + 46 > bytes.length || bytes.readUInt32LE(at) !== ENTRY_SIGNATURE) throw broken();
    left -= unpackedBytes(bytes, at, left);
    at += 46 + bytes.readUInt16LE(at + 28) + bytes.readUInt16LE(at + 30) + bytes.readUInt16LE(at + 32);
  }
}

function unpackedBytes(bytes: Buffer, entry: number, left: number): number {
  if ((bytes.readUInt16LE(entry + 8) & ENCRYPTED_FLAG) !== 0) throw locked();
  const method = bytes.readUInt16LE(entry + 10);
  const packed = bytes.readUInt32LE(entry + 20);
  const local = bytes.readUInt32LE(entry + 42);
  if (local + 30 > bytes.length || bytes.readUInt32LE(local) !== LOCAL_SIGNATURE) throw broken();
  const from = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
  if (from + packed > bytes.length) throw broken();
  if (method === STORED) {
    if (packed > left) throw bomb();
    return packed;
  }
  if (method !== DEFLATED) throw broken();
  try {
    return inflateRawSync(bytes.subarray(from, from + packed), { maxOutputLength: Math.max(1, left) }).length;
  } catch (error) {
    throw error instanceof RangeError ? bomb() : broken();
  }
}

function endOfDirectory(bytes: Buffer): number {
  const last = bytes.length - END_BYTES;
  for (let at = last; at >= Math.max(0, last - MAX_COMMENT_BYTES); at--) {
    if (bytes.readUInt32LE(at) === END_SIGNATURE) return at;
  }
  throw broken();
}

function bomb(): DocumentError {
  const limit = `${MAX_UNPACKED_BYTES / 1024 / 1024} MB`;
  return new DocumentError(
    'unpacked_too_large',
    `the DOCX unpacks to more than ${limit}; remove its pictures or split it`,
  );
}

function broken(): DocumentError {
  return new DocumentError(
    'broken',
    'the DOCX is not a whole zip archive; open it, save it again as .docx and upload that',
  );
}

function locked(): DocumentError {
  return new DocumentError('password', 'the DOCX is encrypted; save it without a password and upload it again');
}
