/** `<category>/<timestamp>-<name>`: where a scraper client finds its file. Milliseconds since 1970. */
export function storagePath(category: string, atMs: number, fileName: string): string {
  return `${category}/${atMs}-${fileName}`;
}

const MAX_NAME_CHARS = 200;

/** The last part of a URL's path as a file name, or a plain one where it has none. */
export function nameOfUrl(url: string): string {
  const last = new URL(url).pathname.split('/').at(-1) ?? '';
  let name = last;
  try {
    name = decodeURIComponent(last);
  } catch {
    // A broken escape is kept as it is written.
  }
  const plain = name
    .replaceAll(/[/\\\p{Cc}]/gu, '-')
    .replaceAll(/\.{2,}/g, '.')
    .slice(0, MAX_NAME_CHARS)
    .toWellFormed();
  return plain === '' || plain === '.' ? 'file' : plain;
}
