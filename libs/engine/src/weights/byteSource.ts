import type { FileHandle } from 'node:fs/promises';
import { EngineError } from '../errors.ts';

/** One `read` call moves at most this much: libuv refuses 2 GiB and more. */
const MAX_READ_BYTES = 1 << 30;

/** Where the bytes of weights come from: a file, or memory. */
export interface ByteSource {
  /** What errors call it. */
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** Fills the whole target or throws `engine.weights.damaged`. */
  readonly read: (target: Uint8Array, position: number) => Promise<void>;
}

/** An open file as a source. The caller closes it. */
export async function fileSource(file: FileHandle, path: string): Promise<ByteSource> {
  const { size } = await file.stat();
  const read = async (target: Uint8Array, position: number): Promise<void> => {
    let done = 0;
    while (done < target.byteLength) {
      const length = Math.min(MAX_READ_BYTES, target.byteLength - done);
      const { bytesRead } = await file.read(target, done, length, position + done);
      if (bytesRead === 0) throw new EngineError('engine.weights.damaged', `${path} ends too early`);
      done += bytesRead;
    }
  };
  return { name: path, size, read };
}
