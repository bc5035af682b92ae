import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { newId } from '@tuneloop/runtime/ids';
import type { CallAs, TestAnswer, TestSystem } from '@tuneloop/testkit/service';

export type FormFields = Readonly<Record<string, string>>;

export interface FormFile {
  readonly bytes: Uint8Array;
  readonly name?: string;
  readonly field?: string;
  readonly type?: string;
}

/** A form as raw bytes, so that names and lengths go over the wire exactly as given. */
export function encodeForm(
  fields: FormFields,
  file: FormFile | null,
): { body: Buffer<ArrayBuffer>; contentType: string } {
  const boundary = `----${newId()}`;
  const chunks: Buffer[] = [];
  for (const [name, value] of Object.entries(fields)) {
    chunks.push(Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`));
  }
  if (file) {
    const { name = 'picture.png', field = 'file', type = 'image/png' } = file;
    chunks.push(
      Buffer.from(
        `--${boundary}\r\nContent-Disposition: form-data; name="${field}"; filename="${name}"\r\nContent-Type: ${type}\r\n\r\n`,
      ),
      Buffer.from(file.bytes),
      Buffer.from('\r\n'),
    );
  }
  chunks.push(Buffer.from(`--${boundary}--\r\n`));
  return { body: Buffer.concat(chunks), contentType: `multipart/form-data; boundary=${boundary}` };
}

/** Posts a form to a path of the service over real HTTP. */
export async function postForm<T>(
  system: TestSystem,
  path: string,
  fields: FormFields,
  file: FormFile | null,
  as: CallAs,
): Promise<TestAnswer<T>> {
  const { body, contentType } = encodeForm(fields, file);
  const answer = await fetch(new URL(path, system.url('ingest')), {
    method: 'POST',
    headers: { authorization: await system.authorization(as), 'content-type': contentType, ...as.headers },
    body,
  });
  return { status: answer.status, headers: answer.headers, body: (await answer.json()) as T };
}

/** Everything that a project has here: nothing may be left of what was refused. */
export async function remains(
  system: TestSystem,
  projectId: string,
): Promise<{ images: number; sweeps: number; blobs: number }> {
  const [row] = await system.sql<{ images: number; sweeps: number }>(
    `SELECT (SELECT count(*)::int FROM ingest.images WHERE project_id = $1) AS images,
            (SELECT count(*)::int FROM ingest.blob_sweeps WHERE project_id = $1) AS sweeps`,
    [projectId],
  );
  return { images: row?.images ?? 0, sweeps: row?.sweeps ?? 0, blobs: await countBlobs(system, projectId) };
}

async function countBlobs(system: TestSystem, projectId: string): Promise<number> {
  try {
    const files = await readdir(join(system.env.BLOB_DIR ?? '', 'ingest', projectId), {
      recursive: true,
      withFileTypes: true,
    });
    return files.filter((file) => file.isFile()).length;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 0;
    throw error;
  }
}
