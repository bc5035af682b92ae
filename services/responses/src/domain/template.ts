/**
 * Prompt templates: plain text with `{{name}}` or `{{name|80}}` (at most 80 characters). A line whose placeholder has no
 * value is left out. Values come from outside, so each is one line: a caption cannot forge another line.
 */
export const TEMPLATE_VARIABLES = ['alt_text', 'category', 'quality', 'width', 'height', 'context'] as const;

const PLACEHOLDER = /\{\{\s*([\w.]+)\s*(?:\|\s*(\d{1,5})\s*)?\}\}/g;
const ANY_BRACES = /\{\{[^\n]*?(?:\}\}|$)/gm;
const FACT = /^facts\.[a-z][a-z0-9_]{0,62}$/;
const MAX_VALUE_CHARS = 2_000;

export type TemplateValues = Readonly<Record<string, string | undefined>>;

/** Placeholders that no picture has a value for, as they are written; empty when the template is sound. */
export function unknownPlaceholders(body: string): string[] {
  return [...body.matchAll(ANY_BRACES)]
    .map(([whole]) => whole)
    .filter((whole) => {
      const name = new RegExp(`^${PLACEHOLDER.source}$`).exec(whole)?.[1];
      return name === undefined || !(FACT.test(name) || TEMPLATE_VARIABLES.some((known) => known === name));
    });
}

export function renderTemplate(body: string, values: TemplateValues): string {
  const lines = body.split('\n').flatMap((line) => {
    let empty = false;
    const text = line.replaceAll(PLACEHOLDER, (_whole, name: string, limit: string | undefined) => {
      const value = (values[name] ?? '').replace(/\s+/g, ' ').trim();
      if (value === '') empty = true;
      return value.slice(0, limit === undefined ? MAX_VALUE_CHARS : Number(limit)).trimEnd();
    });
    return empty ? [] : [text];
  });
  return lines.join('\n').trim();
}

export interface DefaultTemplate {
  readonly body: string;
  readonly system: string | null;
}

/** One line per fact, as small text models are trained on; larger ones read it as well. */
const FACT_LINES = [
  'Item: {{alt_text|80}}',
  'Category: {{category}}',
  'Colour: {{facts.colour}}',
  'Background: {{facts.background}}',
  'Light: {{facts.light}}',
  'Orientation: {{facts.orientation}}',
  'Size: {{facts.size}}',
  'Quality: {{quality}}',
].join('\n');

export const DEFAULT_CATEGORY = 'general';

export const DEFAULT_TEMPLATES: Readonly<Record<string, DefaultTemplate>> = {
  general: { body: FACT_LINES, system: null },
  fashion: { body: `${FACT_LINES}\nDescribe this image for a catalogue.`, system: null },
  portrait: { body: `${FACT_LINES}\nDescribe this picture.`, system: null },
};

export interface PictureWords {
  readonly category: string;
  readonly altText: string | null;
  readonly quality: number;
  readonly width: number;
  readonly height: number;
  readonly context: string | null;
  /** Words that the picture describer read: colour, background, light, orientation, size. */
  readonly words: Readonly<Record<string, string>>;
}

/** The placeholders' values for one picture. The category `general` says nothing and is left out. */
export function pictureValues(picture: PictureWords): TemplateValues {
  const values: Record<string, string | undefined> = {
    alt_text: picture.altText ?? undefined,
    category: picture.category === DEFAULT_CATEGORY ? undefined : picture.category,
    quality: picture.quality.toFixed(2),
    width: String(picture.width),
    height: String(picture.height),
    context: picture.context ?? undefined,
  };
  for (const [name, word] of Object.entries(picture.words)) values[`facts.${name}`] = word;
  return values;
}

/** The facts that a judge may hold an answer against: the words, the item and the category. */
export function pictureFacts(picture: PictureWords): Record<string, string> {
  return {
    ...picture.words,
    ...(picture.altText === null || picture.altText.trim() === '' ? {} : { noun: picture.altText.trim() }),
    ...(picture.category === DEFAULT_CATEGORY ? {} : { category: picture.category }),
  };
}
