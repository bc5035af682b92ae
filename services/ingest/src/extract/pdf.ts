import { getDocumentProxy } from 'unpdf';
import { DocumentError, type Extraction, MAX_CHARS, MAX_PAGES, oneLine, tooLong } from './blocks.ts';
import { pdfBlocks, type PdfPage, type TextPiece } from './pdfBlocks.ts';

/** Text that is turned by more than this is a watermark or a label of a figure. */
const MAX_SLOPE = 0.05;
const ERRORS_ONLY = 0;

/** The text of a PDF in reading order. @throws DocumentError */
export async function extractPdf(bytes: Uint8Array): Promise<Extraction> {
  const pdf = await open(bytes);
  if (pdf.numPages > MAX_PAGES) {
    throw new DocumentError(
      'too_many_pages',
      `the PDF has ${pdf.numPages} pages, and ${MAX_PAGES} are taken; split it and upload the parts`,
    );
  }
  const pages: PdfPage[] = [];
  let chars = 0;
  for (let number = 1; number <= pdf.numPages; number++) {
    const page = await pdf.getPage(number);
    const { transform, width, height } = page.getViewport({ scale: 1 });
    const { items } = await page.getTextContent();
    const pieces = items.flatMap((item) => ('str' in item ? (placed(item, transform) ?? []) : []));
    chars += pieces.reduce((sum, piece) => sum + piece.text.length, 0);
    if (chars > MAX_CHARS) throw tooLong();
    pages.push({ number, width, height, pieces });
    page.cleanup();
  }
  if (chars === 0) {
    throw new DocumentError(
      'no_text',
      'the PDF has no text, only pictures of it (a scan?); run text recognition (OCR) over it and upload the result',
    );
  }
  const { info } = await pdf.getMetadata();
  const title = 'Title' in info && typeof info.Title === 'string' ? oneLine(info.Title) : '';
  return { title: title === '' ? null : title, pages: pdf.numPages, blocks: pdfBlocks(pages) };
}

async function open(bytes: Uint8Array) {
  try {
    return await getDocumentProxy(bytes, { verbosity: ERRORS_ONLY, stopAtErrors: false });
  } catch (error) {
    const name = error instanceof Error ? error.name : '';
    if (name === 'PasswordException') {
      throw new DocumentError('password', 'the PDF asks for a password; save it without one and upload it again');
    }
    throw new DocumentError('broken', 'the PDF cannot be read; open it, save it again as PDF and upload that');
  }
}

interface TextItem {
  readonly str: string;
  readonly transform: readonly number[];
  readonly width: number;
  readonly fontName: string;
}

/** An item on the page as it is shown, y growing downwards; undefined for blanks and turned text. */
function placed(item: TextItem, view: readonly number[]): TextPiece | undefined {
  if (item.str.trim() === '') return undefined;
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = item.transform;
  const [va = 1, vb = 0, vc = 0, vd = 1, ve = 0, vf = 0] = view;
  const across = { x: va * a + vc * b, y: vb * a + vd * b };
  const up = { x: va * c + vc * d, y: vb * c + vd * d };
  const size = Math.hypot(up.x, up.y);
  if (size === 0 || across.x <= 0 || Math.abs(across.y) > MAX_SLOPE * Math.abs(across.x)) return undefined;
  return {
    text: item.str,
    x: va * e + vc * f + ve,
    y: vb * e + vd * f + vf,
    width: item.width,
    size,
    font: item.fontName,
  };
}
