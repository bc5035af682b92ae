/** Models of a hub by their id, in the cache that Python's `huggingface_hub` shares. */
import { mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { EngineError } from '../errors.ts';
import { isJsonObject } from '../json.ts';
import { listWeightFiles } from '../weights/safetensors.ts';
import { ensureFile, snapshotFolder, type RepoCache } from './download.ts';
import { PassingFailure, persist, send } from './request.ts';
import { hubSettings, type HubOptions, type HubSettings } from './settings.ts';

const ID = /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/;
const COMMIT = /^[0-9a-f]{40}$/;
const WEIGHTS = 'model.safetensors';
const WEIGHTS_INDEX = 'model.safetensors.index.json';
const CONFIG = 'config.json';
/** Taken when the repository has them. */
const OPTIONAL = ['generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'];
const MAX_LISTED_GGUF = 8;

/** Whether a text has the form `organisation/name`, or `organisation/name/file.gguf` of a file in it. */
export function isHubName(name: string): boolean {
  const [organisation, model, ...file] = name.split('/');
  if (model === undefined || !ID.test(`${organisation}/${model}`)) return false;
  return file.length === 0 || (name.endsWith('.gguf') && file.every((part) => /^[\w][\w .-]*$/.test(part)));
}

async function cachedCommit(folder: string, revision: string): Promise<string | undefined> {
  if (COMMIT.test(revision)) return revision;
  const text = await readFile(join(folder, 'refs', revision), 'utf8').catch(() => '');
  return COMMIT.test(text.trim()) ? text.trim() : undefined;
}

interface Listing {
  readonly commit: string;
  readonly files: readonly string[];
}

async function listRepository(id: string, settings: HubSettings): Promise<Listing> {
  const url = `${settings.endpoint}/api/models/${id}/revision/${encodeURIComponent(settings.revision)}`;
  const answer = await persist(settings, async (watchdog): Promise<unknown> => {
    const response = await send({ method: 'GET', url, followAway: true, what: id }, settings, watchdog);
    const text = await response.text().catch((cause: unknown) => {
      throw new PassingFailure(`${id}: the list of files broke off`, { cause });
    });
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new EngineError('engine.hub.failed', `${id}: ${settings.endpoint} gives no list of files`, { cause });
    }
  });
  const commit = isJsonObject(answer) ? answer['sha'] : undefined;
  const siblings: unknown[] = isJsonObject(answer) && Array.isArray(answer['siblings']) ? answer['siblings'] : [];
  if (typeof commit !== 'string' || !COMMIT.test(commit)) {
    throw new EngineError('engine.hub.failed', `${id}: ${settings.endpoint} names no commit`);
  }
  const names = siblings.map((sibling) => (isJsonObject(sibling) ? sibling['rfilename'] : undefined));
  return { commit, files: names.filter((name) => typeof name === 'string') };
}

async function rememberRevision(repo: RepoCache, revision: string): Promise<void> {
  if (COMMIT.test(revision)) return;
  const path = join(repo.folder, 'refs', revision);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.${process.pid}.partial`, repo.commit);
  await rename(`${path}.${process.pid}.partial`, path);
}

function missingWeights(id: string, files: readonly string[]): EngineError {
  const gguf = files.filter((file) => file.endsWith('.gguf'));
  const how =
    gguf.length > 0
      ? `it has GGUF files: give ${id}/FILE, FILE being ${gguf.slice(0, MAX_LISTED_GGUF).join(', ')}`
      : 'a model in safetensors is needed';
  return new EngineError('engine.weights.missing', `${id} has no ${WEIGHTS} and no ${WEIGHTS_INDEX}; ${how}`);
}

async function fetchModel(repo: RepoCache, files: readonly string[], settings: HubSettings): Promise<void> {
  const weights = [WEIGHTS, WEIGHTS_INDEX].find((file) => files.includes(file));
  if (weights === undefined) throw missingWeights(repo.id, files);
  for (const file of [CONFIG, ...OPTIONAL.filter((name) => files.includes(name)), weights]) {
    await ensureFile(repo, file, settings);
  }
  if (weights === WEIGHTS) return;
  const folder = snapshotFolder(repo);
  for (const path of await listWeightFiles(folder)) await ensureFile(repo, path.slice(folder.length + 1), settings);
}

/** A snapshot that has what a model needs, or the file it lacks. */
async function missingInSnapshot(folder: string, file: string | undefined): Promise<string | undefined> {
  const has = async (path: string): Promise<boolean> =>
    await stat(path).then(
      () => true,
      () => false,
    );
  if (file !== undefined) return (await has(join(folder, file))) ? undefined : file;
  if (!(await has(join(folder, CONFIG)))) return CONFIG;
  const weights = await listWeightFiles(folder).catch(() => [join(folder, WEIGHTS)]);
  for (const path of weights) if (!(await has(path))) return path.slice(folder.length + 1);
  return undefined;
}

/** From the cache alone; `why` says why nobody was asked. */
async function fromCache(id: string, file: string | undefined, settings: HubSettings, why: string): Promise<string> {
  const folder = repoFolder(id, settings);
  const commit = await cachedCommit(folder, settings.revision);
  if (commit === undefined) {
    const known = await readdir(join(folder, 'snapshots')).catch(() => []);
    throw new EngineError(
      'engine.hub.not_cached',
      `${id} at revision ${settings.revision} is not in ${settings.cacheDir}, and ${why}` +
        (known.length > 0 ? ` (there: ${known.join(', ')})` : ''),
    );
  }
  const snapshot = snapshotFolder({ id, folder, commit });
  const missing = await missingInSnapshot(snapshot, file);
  if (missing === undefined) return file === undefined ? snapshot : join(snapshot, file);
  throw new EngineError('engine.hub.not_cached', `${id}: ${missing} is not in ${snapshot}, and ${why}`);
}

function repoFolder(id: string, settings: HubSettings): string {
  return join(settings.cacheDir, `models--${id.replace('/', '--')}`);
}

/**
 * Has a model of the Hugging Face hub, or of a server with its layout, on disk: configuration, tokenizer and safetensors, or
 * one GGUF file. Downloads are resumed, checked against the digests that the hub tells, and put where Python's package looks
 * for them; what is there already is used. When the hub cannot be reached, the cache is used if it holds the revision.
 * Two processes that download one file at a time may spoil each other's; it is then refused and removed.
 *
 * @param name `organisation/name`, or `organisation/name/file.gguf`
 * @returns the folder of the snapshot, or the path of the GGUF file
 * @throws EngineError `engine.hub.not_found | unauthorized | forbidden | unreachable | not_cached | corrupt | failed |
 * bad_options`, `engine.weights.missing`
 */
export async function downloadModel(name: string, options: HubOptions = {}): Promise<string> {
  const settings = hubSettings(options, process.env);
  if (!isHubName(name)) {
    throw new EngineError('engine.hub.bad_options', `${name} is no id of the form organisation/name`);
  }
  const id = name.split('/', 2).join('/');
  const file = name.length > id.length ? name.slice(id.length + 1) : undefined;
  if (settings.offline) return await fromCache(id, file, settings, 'the hub is not asked (offline)');
  let listing: Listing;
  try {
    listing = await listRepository(id, settings);
  } catch (error) {
    if (!(error instanceof EngineError) || error.code !== 'engine.hub.unreachable') throw error;
    return await fromCache(id, file, settings, error.message).catch(() => {
      throw error;
    });
  }
  const repo: RepoCache = { id, folder: repoFolder(id, settings), commit: listing.commit };
  if (file === undefined) await fetchModel(repo, listing.files, settings);
  else await ensureFile(repo, file, settings);
  await rememberRevision(repo, settings.revision);
  return file === undefined ? snapshotFolder(repo) : join(snapshotFolder(repo), file);
}
