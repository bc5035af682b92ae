import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { Block, Extraction } from './blocks.ts';
import { extractDocx } from './docx.ts';
import { extractHtml, extractMarkdown, extractText } from './markup.ts';
import { extractPdf } from './pdf.ts';

const fixture = (name: string): Promise<Buffer> => readFile(new URL(`../../fixtures/${name}`, import.meta.url));
const pdf = async (name: string): Promise<Extraction> => extractPdf(new Uint8Array(await fixture(name)));
const kinds = (blocks: readonly Block[]): string[] => blocks.map((block) => block.kind);
const headings = ({ blocks }: Extraction): string[] =>
  blocks.flatMap((block) => (block.kind === 'heading' ? [`${block.level} ${block.text}`] : []));
const tables = ({ blocks }: Extraction) => blocks.flatMap((block) => (block.kind === 'table' ? [block.rows] : []));
const text = ({ blocks }: Extraction): string =>
  blocks.map((block) => ('text' in block ? block.text : 'items' in block ? block.items.join('\n') : '')).join('\n');

describe('PDF', () => {
  it('reads one column after the other, and a table as rows', async () => {
    const coffee = await pdf('coffee-columns.pdf');
    expect(coffee.title).toBe('Handbook of coffee');
    expect(headings(coffee)).toEqual(['1 Grinding', '1 Brewing', '1 Cleaning', '1 Doses', '1 Storage']);
    expect(tables(coffee)).toEqual([
      [
        ['Drink', 'Coffee (g)', 'Water (g)'],
        ['Espresso', '18', '36'],
        ['Lungo', '18', '72'],
        ['Filter', '30', '500'],
      ],
    ]);
    expect(text(coffee)).toContain('grind finer; if it drips, grind coarser.');
    expect(text(coffee)).not.toMatch(/Page 1/);
  });

  it('puts divided words together and joins what a column broke', async () => {
    const tides = await pdf('tides.pdf');
    expect(headings(tides)).toEqual(['1 On tides', '2 Causes', '2 Spring and neap', '2 Instruments']);
    expect(text(tides)).toContain('eiusmod tempor incididunt ut labore');
    expect(tables(tides)[0]).toEqual([
      ['Port', 'High water', 'Range'],
      ['Brest', '04:10', '6.1 m'],
      ['Dover', '11:02', '5.9 m'],
      ['Bergen', '10:20', '1.2 m'],
    ]);
  });

  it.each([
    ['scan.pdf', 'no_text', /OCR/],
    ['locked.pdf', 'password', /without one/],
  ])('says what is wrong with %s and what to do', async (name, code, message) => {
    await expect(pdf(name)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('refuses what only begins like a PDF', async () => {
    await expect(extractPdf(new TextEncoder().encode('%PDF-1.7\nnothing'))).rejects.toMatchObject({ code: 'broken' });
  });
});

describe('the same manual from Markdown and DOCX', () => {
  it('has the same headings, table and lists', async () => {
    const markdown = extractMarkdown((await fixture('bicycle.md')).toString('utf8'));
    const docx = await extractDocx(await fixture('bicycle.docx'));
    expect(headings(markdown)).toEqual(['1 Bicycle workshop manual', '2 Wheels', '3 Tyres', '2 Brakes', '2 Chain']);
    expect(headings(docx)).toEqual(headings(markdown));
    expect(tables(docx)).toEqual(tables(markdown));
    expect(tables(markdown)[0]?.[1]).toEqual(['25 mm', '6.5', '80']);
    expect([markdown.title, docx.title]).toEqual(['Bicycle workshop manual', 'Bicycle workshop manual']);
    expect(kinds(markdown.blocks)).toContain('code');
    expect(markdown.blocks.find((block) => block.kind === 'list')).toEqual({
      kind: 'list',
      items: [
        '1. Inflate to the pressure that is printed on the wall.',
        '2. Look for cuts and glass.',
        '3. Replace the tyre when the canvas shows.',
      ],
    });
  });
});

describe('DOCX', () => {
  it('takes the title apart from the headings', async () => {
    const garden = await extractDocx(await fixture('garden-plan.docx'));
    expect(garden.title).toBe('Garden plan');
    expect(headings(garden)).toEqual(['1 Beds', '1 Watering']);
    expect(tables(garden)[0]?.at(-1)).toEqual(['Leek', 'April', 'October']);
  });

  it('refuses an archive that is cut off', async () => {
    const bytes = await fixture('garden-plan.docx');
    await expect(extractDocx(bytes.subarray(0, 20_000))).rejects.toMatchObject({ code: 'broken' });
  });
});

describe('HTML', () => {
  it('reads the main part without navigation, scripts, asides and footers', async () => {
    const bees = extractHtml((await fixture('bees.html')).toString('utf8'));
    expect(bees.title).toBe('Bees in the city');
    expect(kinds(bees.blocks)).toEqual([
      ...['heading', 'paragraph', 'heading', 'paragraph', 'table', 'heading', 'paragraph'],
    ]);
    expect(text(bees)).not.toMatch(/Shop|newsletter|tracking|Terms|color/);
  });

  it.each([
    ['<p>seen</p><p style="display: none">hidden</p><p hidden>hidden</p><p aria-hidden="true">hidden</p>'],
    ['<p>seen<span style="font-size:0">hidden</span></p><template><p>hidden</p></template>'],
  ])('leaves out what a reader does not see: %s', (html) => {
    expect(text(extractHtml(html))).toBe('seen');
  });

  it('keeps cells that span rows and columns in their places', () => {
    const html =
      '<table><tr><th>City</th><th colspan="2">Trains</th></tr><tr><td rowspan="2">Ghent</td><td>07:00</td><td>A</td></tr><tr><td>08:00</td><td>B</td></tr></table>';
    expect(tables(extractHtml(html))[0]).toEqual([
      ['City', 'Trains', ''],
      ['Ghent', '07:00', 'A'],
      ['Ghent', '08:00', 'B'],
    ]);
  });

  it('reads a table that lays out a page as the page', () => {
    const html = '<table><tr><td><h1>Top</h1><p>Left</p></td><td><p>Right</p></td></tr></table>';
    expect(text(extractHtml(html))).toBe('Top\nLeft\nRight');
  });

  it('nests lists', () => {
    const [list] = extractHtml('<ol><li>One<ul><li>inner</li></ul></li><li>Two</li></ol>').blocks;
    expect(list).toEqual({ kind: 'list', items: ['1. One', '  - inner', '2. Two'] });
  });
});

describe('plain text', () => {
  it('has paragraphs between empty lines, and lists', () => {
    expect(extractText('One line\nand more.\n\n- a\n- b\n\n\nEnd.\n').blocks).toEqual([
      { kind: 'paragraph', text: 'One line and more.' },
      { kind: 'list', items: ['- a', '- b'] },
      { kind: 'paragraph', text: 'End.' },
    ]);
  });
});
