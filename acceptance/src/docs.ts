import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** One fenced block of a page of the documentation. */
export interface Example {
  /** `README.md:43`, to find it. */
  readonly at: string;
  readonly page: string;
  readonly language: string;
  /** The fence says `run` after its language: the block runs as it stands, after those before it on its page. */
  readonly runs: boolean;
  readonly code: string;
}

/** README.md and the pages of docs/. */
export function pages(): string[] {
  const docs = readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md'));
  return ['README.md', ...docs.toSorted().map((name) => `docs/${name}`)];
}

/** All fenced blocks of a page, in order. */
export function examplesOf(page: string): Example[] {
  const examples: Example[] = [];
  let open: { info: string; line: number; code: string[] } | undefined;
  for (const [index, line] of readFileSync(join(ROOT, page), 'utf8').split('\n').entries()) {
    const fence = /^```(.*)$/.exec(line);
    if (!fence) open?.code.push(line);
    else if (!open) open = { info: fence[1]!.trim(), line: index + 1, code: [] };
    else {
      const [language = '', ...words] = open.info.split(/\s+/);
      const code = `${open.code.join('\n')}\n`;
      examples.push({ at: `${page}:${open.line}`, page, language, runs: words.includes('run'), code });
      open = undefined;
    }
  }
  return examples;
}
