import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Logger } from '@tuneloop/runtime/log';
import { DocumentError } from './extract/blocks.ts';
import { type ExtractJob, extractResult, type ExtractResult } from './extract/protocol.ts';

const MAIN = fileURLToPath(new URL('extract/main.ts', import.meta.url));
/** The text of a document with its chunks' hashes and keys. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const MAX_LOGGED_CHARS = 2_000;
const WATCH_MS = 100;
const PAGE_BYTES = 4_096;
const MIB = 1024 * 1024;
/** Of the cap, what the JavaScript heap may take; the rest is for buffers outside it and the runtime itself. */
const HEAP_SHARE = 0.7;

export interface ExtractorOptions {
  readonly memoryMb: number;
  readonly timeoutMs: number;
  readonly log: Logger;
}

export type Extracted = Extract<ExtractResult, { ok: true }>;

/**
 * Reads documents, each in a process of its own: without our environment and with Node's permission model, so that it
 * can read files but not write, start or load anything; killed when it takes more memory or time than one document may.
 */
export class Extractor {
  readonly #options: ExtractorOptions;

  constructor(options: ExtractorOptions) {
    this.#options = options;
  }

  /** @throws DocumentError for what is wrong with the document; Error when the process could not be run or was stopped. */
  async extract(bytes: Buffer, job: ExtractJob, signal: AbortSignal): Promise<Extracted> {
    signal.throwIfAborted();
    const { memoryMb, timeoutMs, log } = this.#options;
    const heapMb = Math.round(memoryMb * HEAP_SHARE);
    const flags = [
      '--permission',
      '--allow-fs-read=*',
      `--max-old-space-size=${heapMb}`,
      '--disable-warning=ExperimentalWarning',
    ];
    const child = spawn(process.execPath, [...flags, MAIN, JSON.stringify(job)], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: {},
      signal,
      killSignal: 'SIGKILL',
    });
    let reason: DocumentError | undefined;
    const kill = (why: DocumentError): void => {
      reason ??= why;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => kill(tooSlow(timeoutMs)), timeoutMs);
    const watch = setInterval(() => {
      void residentBytes(child.pid).then((resident) => {
        if (resident > memoryMb * MIB) kill(tooLarge(memoryMb));
      });
    }, WATCH_MS);
    try {
      const { code, killedBy, output, errors } = await finished(child, bytes, () => kill(tooLarge(memoryMb)));
      if (reason) throw reason;
      // 134 and SIGABRT: the heap was full.
      if (code === 134 || killedBy === 'SIGABRT') throw tooLarge(memoryMb);
      if (code !== 0) throw new Error(`the extractor ended with ${code ?? killedBy}: ${errors}`);
      if (errors !== '') log.info({ errors }, 'a document could not be read');
      const result = extractResult.parse(JSON.parse(output));
      if (!result.ok) throw new DocumentError(result.code, result.message);
      return result;
    } finally {
      clearTimeout(timer);
      clearInterval(watch);
    }
  }
}

interface Finished {
  readonly code: number | null;
  readonly killedBy: NodeJS.Signals | null;
  readonly output: string;
  readonly errors: string;
}

function finished(child: ChildProcess, input: Buffer, tooMuch: () => void): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let errors = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_ANSWER_BYTES) tooMuch();
      else chunks.push(chunk);
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      errors = (errors + chunk.toString('utf8')).slice(0, MAX_LOGGED_CHARS);
    });
    child.on('error', reject);
    child.on('close', (code, killedBy) => {
      resolve({ code, killedBy, output: Buffer.concat(chunks).toString('utf8'), errors });
    });
    // A child that is killed while it reads breaks the pipe; its end is told by `close`.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

/** Memory that the process holds in RAM; 0 where the system does not say (not Linux): the heap's own cap is left then. */
async function residentBytes(pid: number | undefined): Promise<number> {
  try {
    const statm = await readFile(`/proc/${pid}/statm`, 'utf8');
    return Number(statm.split(' ')[1]) * PAGE_BYTES;
  } catch {
    return 0;
  }
}

function tooSlow(timeoutMs: number): DocumentError {
  const message = `reading the document took longer than ${timeoutMs / 1_000} s; split it and upload the parts`;
  return new DocumentError('too_slow', message);
}

function tooLarge(memoryMb: number): DocumentError {
  const message = `reading the document took more than ${memoryMb} MB of memory; remove its pictures or split it`;
  return new DocumentError('too_large', message);
}
