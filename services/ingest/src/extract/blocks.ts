/** A document as structure: what chunks are made of. */
export type Block =
  | { readonly kind: 'heading'; readonly level: number; readonly text: string; readonly page?: number }
  | { readonly kind: 'paragraph'; readonly text: string; readonly page?: number }
  /** Items with their own marks (`- `, `1. `), nested ones indented. */
  | { readonly kind: 'list'; readonly items: readonly string[]; readonly page?: number }
  /** Rows of cells; the first row is the header where there is one. */
  | {
      readonly kind: 'table';
      readonly rows: readonly (readonly string[])[];
      readonly header: boolean;
      readonly page?: number;
    }
  | { readonly kind: 'code'; readonly text: string; readonly page?: number };

export interface Extraction {
  readonly title: string | null;
  /** Null for types that have no pages. */
  readonly pages: number | null;
  readonly blocks: readonly Block[];
}

/** What is wrong with a document, in words that name the fix. */
export class DocumentError extends Error {
  override readonly name = 'DocumentError';
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Pages of one document. */
export const MAX_PAGES = 2_000;
/** Characters of one document's text. */
export const MAX_CHARS = 5_000_000;

export function tooLong(): DocumentError {
  return new DocumentError(
    'too_long',
    `the document has more than ${MAX_CHARS.toLocaleString('en')} characters of text; split it and upload the parts`,
  );
}

/** One line, its spaces single. */
export function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

/** A first row of short words above others is taken for a header where nothing says so: numbers are data. */
export function looksLikeHeader(rows: readonly (readonly string[])[]): boolean {
  const [first, second] = rows;
  return second !== undefined && first!.every((cell) => cell !== '' && !/^[-+]?[\d.,:%\s]+$/.test(cell));
}
