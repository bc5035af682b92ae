/** Documents that are taken, by what they are. */
export const DOCUMENT_TYPES = {
  pdf: 'application/pdf',
  docx: 'application/vnd.openxmlformats-officedocument.wordprocessingml.document',
  html: 'text/html',
  markdown: 'text/markdown',
  text: 'text/plain',
} as const;
export type DocumentType = (typeof DOCUMENT_TYPES)[keyof typeof DOCUMENT_TYPES];

const ENDINGS: Readonly<Record<string, DocumentType>> = {
  html: DOCUMENT_TYPES.html,
  htm: DOCUMENT_TYPES.html,
  xhtml: DOCUMENT_TYPES.html,
  md: DOCUMENT_TYPES.markdown,
  markdown: DOCUMENT_TYPES.markdown,
  txt: DOCUMENT_TYPES.text,
  text: DOCUMENT_TYPES.text,
};
/** Kinds of text have no signature: what the sniffer may call an HTML page. */
const MARKUP: ReadonlySet<string> = new Set(['application/xml', 'text/html', 'application/xhtml+xml']);
const HTML_START = /^\s*(?:<!--[\s\S]{0,2000}?-->\s*)?(?:<\?xml[^>]{0,200}>\s*)?<(?:!doctype\s+html|html)[\s>]/i;
const START_CHARS = 4_096;

export interface DocumentEvidence {
  readonly bytes: Uint8Array;
  /** What the signature says; undefined where there is none. */
  readonly sniffed: string | undefined;
  readonly name: string;
  readonly declared: string | undefined;
}

/**
 * The type of a document, undefined when it is none that is taken. Binary types are known by their bytes alone; text is
 * UTF-8 without NUL, and which kind of text is told by its beginning, its name's ending or the declared type.
 */
export function documentType({ bytes, sniffed, name, declared }: DocumentEvidence): DocumentType | undefined {
  if (sniffed === DOCUMENT_TYPES.pdf || sniffed === DOCUMENT_TYPES.docx) return sniffed;
  if (sniffed !== undefined && !MARKUP.has(sniffed)) return undefined;
  const text = decodeText(bytes);
  if (text === undefined) return undefined;
  if (HTML_START.test(text.slice(0, START_CHARS))) return DOCUMENT_TYPES.html;
  if (sniffed !== undefined) return undefined;
  const ending = /\.([a-z]+)$/i.exec(name)?.[1]?.toLowerCase() ?? '';
  const named = Object.hasOwn(ENDINGS, ending) ? ENDINGS[ending] : undefined;
  if (named !== undefined) return named;
  const texts: readonly string[] = [DOCUMENT_TYPES.html, DOCUMENT_TYPES.markdown];
  const type = declared?.split(';', 1)[0]?.trim().toLowerCase();
  return type !== undefined && texts.includes(type) ? (type as DocumentType) : DOCUMENT_TYPES.text;
}

function decodeText(bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
