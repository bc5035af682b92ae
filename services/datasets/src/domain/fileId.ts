const PREFIX = 'file-';
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A file's id as OpenAI's API shows it. */
export function fileName(id: string): string {
  return `${PREFIX}${id}`;
}

/** The row's id behind `file-<uuid>`; undefined for anything else. */
export function fileUuid(name: string): string | undefined {
  const id = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : '';
  return UUID.test(id) ? id : undefined;
}
