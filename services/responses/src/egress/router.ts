import {
  findModelInternal,
  getCheckpointInternal,
  listDeploymentsInternal,
} from '@tuneloop/contracts/trainer/internal';
import { BoundedCache } from '@tuneloop/runtime/boundedCache';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings, type ProjectSettings } from '@tuneloop/runtime/projects';
import type { ResponsesContext } from '../context.ts';
import { type ModelTarget, parseImmutableName, pickTarget, type WeightedTarget } from '../domain/target.ts';
import * as store from '../store/routing.ts';
import type { Providers } from './providers.ts';

/** Calls of the trainer happen inside a request's transaction: they end soon. */
const ASK_TRAINER_MS = 2_000;
/** A trainer that does not answer is not asked again for a project within this. */
const ASK_AGAIN_MS = 5_000;
const MAX_REMEMBERED = 10_000;
/** How long a route is good for while Postgres is away. */
const REMEMBER_MS = 24 * 3_600_000;
const MAX_NAMES_SHOWN = 50;
const DEFAULT_SLOT = 'default';

export interface RouteRequest {
  readonly model: string;
  /** Slot asked for beside the model's name. */
  readonly slot: string | undefined;
  /** Whom a weighted split sticks to. */
  readonly user: string | null;
}

export interface Resolved {
  readonly target: ModelTarget;
  readonly settings: ProjectSettings;
}

/** What a name stands for, before a side of a split is chosen. */
interface Route {
  readonly provider: ModelTarget['provider'];
  readonly slot: string;
  readonly targets: readonly WeightedTarget[];
}

/**
 * From model names to weights. Postgres is read for every request, in the transaction that opens its trace: so every
 * replica follows a deployment the moment its event is stored. What was read last is kept in memory for the time when
 * Postgres is away.
 */
export class Router {
  readonly #ctx: ResponsesContext;
  readonly #providers: Providers;
  readonly #remembered = new BoundedCache<Route>(MAX_REMEMBERED);
  readonly #asked = new BoundedCache<true>(MAX_REMEMBERED);

  constructor(ctx: ResponsesContext, providers: Providers) {
    this.#ctx = ctx;
    this.#providers = providers;
  }

  /** @throws AppError 404 that lists what there is */
  async resolve(tx: Tx, request: RouteRequest): Promise<Resolved> {
    const settings = await projectSettings(tx, this.#ctx);
    const route = await this.#find(tx, request, settings);
    this.#remembered.set(rememberKey(tx.projectId!, request), route, REMEMBER_MS);
    return { target: choose(route, tx.projectId!, request.user), settings };
  }

  /** What serves the project's own model in a slot. */
  async resolveProjectModel(tx: Tx, slot: string, user: string): Promise<Resolved> {
    const settings = await projectSettings(tx, this.#ctx);
    const route = await this.#ofSlot(tx, slot, settings);
    return { target: choose(route, tx.projectId!, user), settings };
  }

  /** What a name stood for last, for the time without Postgres. An unknown name may still be the upstream's. */
  fallback(projectId: string, request: RouteRequest): ModelTarget | undefined {
    const route = this.#remembered.get(rememberKey(projectId, request));
    if (route) return choose(route, projectId, request.user);
    if (!this.#providers.hasUpstream || this.#providers.localModels.has(request.model)) return undefined;
    if (parseImmutableName(request.model) || request.model.startsWith('ft:')) return undefined;
    return choose(upstreamRoute(request.model), projectId, request.user);
  }

  async #find(tx: Tx, request: RouteRequest, settings: ProjectSettings): Promise<Route> {
    const { model } = request;
    const alias = await store.findAlias(tx, model);
    if (alias) return this.#ofAlias(tx, alias.target, settings);
    const named = parseImmutableName(model);
    if (named) return this.#ofImmutable(tx, named);
    if (model === settings.model || model === DEFAULT_SLOT)
      return this.#ofSlot(tx, request.slot ?? DEFAULT_SLOT, settings);
    const slot = await this.#slotTargets(tx, model);
    if (slot) return localRoute(model, slot);
    if (this.#providers.localModels.has(model)) return localRoute(DEFAULT_SLOT, [baseTarget(model)]);
    if (model.startsWith('ft:')) {
      const tuned = await this.#tunedModel(tx, { name: model });
      if (tuned && tuned.deleted_at === null) return localRoute(DEFAULT_SLOT, [tunedTarget(tuned)]);
    }
    if (await this.#isUpstream(tx, model)) return upstreamRoute(model);
    const bases = await this.#providers.localModels.refresh(tx.projectId!);
    if (bases.some((base) => base.id === model)) return localRoute(DEFAULT_SLOT, [baseTarget(model)]);
    throw await this.#unknown(tx, model, settings);
  }

  async #ofAlias(tx: Tx, target: store.AliasTarget, settings: ProjectSettings): Promise<Route> {
    if (target.kind === 'slot') return this.#ofSlot(tx, target.slot, settings);
    if (target.kind === 'base') return localRoute(DEFAULT_SLOT, [baseTarget(target.model)]);
    if (target.kind === 'upstream') return upstreamRoute(target.model);
    const tuned = await this.#tunedModel(tx, { checkpointId: target.checkpoint_id });
    if (!tuned) throw modelNotFound(`Checkpoint ${target.checkpoint_id} of this alias does not exist.`);
    return localRoute(DEFAULT_SLOT, [tunedTarget(tuned)]);
  }

  async #ofImmutable(tx: Tx, named: { model: string; checkpointId: string | null }): Promise<Route> {
    if (named.checkpointId === null) return localRoute(DEFAULT_SLOT, [baseTarget(named.model)]);
    const tuned = await this.#tunedModel(tx, { checkpointId: named.checkpointId });
    if (tuned?.base_model !== named.model) {
      throw modelNotFound(`There is no checkpoint ${named.checkpointId} of ${named.model}.`);
    }
    return localRoute(DEFAULT_SLOT, [tunedTarget(tuned)]);
  }

  /** What serves in a slot; the project's base until something is deployed there. */
  async #ofSlot(tx: Tx, slot: string, settings: ProjectSettings): Promise<Route> {
    const targets = await this.#slotTargets(tx, slot);
    if (targets) return localRoute(slot, targets);
    return (await this.#isUpstream(tx, settings.model))
      ? { ...upstreamRoute(settings.model), slot }
      : localRoute(slot, [baseTarget(settings.model)]);
  }

  /** A name that the local engine has is never the upstream's. */
  async #isUpstream(tx: Tx, model: string): Promise<boolean> {
    if (!this.#providers.hasUpstream || this.#providers.localModels.has(model)) return false;
    await this.#providers.upstreamModels.refresh(tx.projectId!);
    return this.#providers.upstreamModels.has(model);
  }

  async #slotTargets(tx: Tx, slot: string): Promise<readonly WeightedTarget[] | null> {
    const state = await store.findSlot(tx, slot);
    if (state.targets !== null || state.synced || !(await this.#syncDeployments(tx))) return state.targets;
    return (await store.findSlot(tx, slot)).targets;
  }

  /** Asks the trainer once what it deploys for the project; events keep it from then on. */
  async #syncDeployments(tx: Tx): Promise<boolean> {
    const projectId = tx.projectId!;
    if (this.#asked.get(projectId)) return false;
    this.#asked.set(projectId, true, ASK_AGAIN_MS);
    try {
      const { data } = await this.#ctx.callers.call(
        listDeploymentsInternal,
        {},
        { projectId, timeoutMs: ASK_TRAINER_MS },
      );
      await store.upsertDeployments(tx, data);
      await store.markDeploymentsSynced(tx);
      return data.length > 0;
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      this.#ctx.log.warn({ reason: describeError(error) }, 'deployments could not be asked for; the base answers');
      return false;
    }
  }

  async #tunedModel(
    tx: Tx,
    by: { readonly name: string } | { readonly checkpointId: string },
  ): Promise<store.TunedModelRow | undefined> {
    const known = await store.findTunedModel(tx, by);
    if (known) return known;
    const call = { projectId: tx.projectId!, timeoutMs: ASK_TRAINER_MS };
    try {
      const checkpoint =
        'name' in by
          ? await this.#ctx.callers.call(findModelInternal, { query: { model_name: by.name } }, call)
          : await this.#ctx.callers.call(getCheckpointInternal, { params: { id: by.checkpointId } }, call);
      await store.insertTunedModel(tx, checkpoint);
    } catch (error) {
      if (error instanceof AppError && (error.status === 404 || error.code === 'runtime.call.no_address'))
        return undefined;
      throw error;
    }
    return store.findTunedModel(tx, by);
  }

  /** Names that can be asked, for `/v1/models` and for the error that lists them. */
  async names(
    tx: Tx,
    settings: ProjectSettings,
    limit: number,
  ): Promise<{ id: string; created: Date | null; owner: string }[]> {
    const projectId = tx.projectId!;
    const bases = await this.#providers.localModels.refresh(projectId);
    const upstream = await this.#providers.upstreamModels.refresh(projectId);
    const all = [
      { id: settings.model, created: null, owner: 'tuneloop' },
      ...bases.map((model) => ({ id: model.id, created: fromSeconds(model.created), owner: 'tuneloop' })),
      ...(await store.listSlots(tx, limit)).map((row) => ({ id: row.slot, created: row.changed_at, owner: 'project' })),
      ...(await store.listAliases(tx, undefined, limit)).map((row) => ({
        id: row.alias,
        created: row.created_at,
        owner: 'project',
      })),
      ...(await store.listTunedModels(tx, limit)).map((row) => ({
        id: row.model_name,
        created: row.created_at,
        owner: 'project',
      })),
      ...upstream.map((model) => ({ id: model.id, created: fromSeconds(model.created), owner: model.owned_by })),
    ];
    const seen = new Set<string>();
    return all.filter(({ id }) => !seen.has(id) && seen.add(id)).slice(0, limit);
  }

  async #unknown(tx: Tx, model: string, settings: ProjectSettings): Promise<AppError> {
    const names = (await this.names(tx, settings, MAX_NAMES_SHOWN)).map(({ id }) => id);
    return modelNotFound(`The model '${model.slice(0, 200)}' does not exist. There is: ${names.join(', ')}.`);
  }
}

function fromSeconds(seconds: number): Date {
  return new Date(seconds * 1000);
}

function rememberKey(projectId: string, request: RouteRequest): string {
  return JSON.stringify([projectId, request.model, request.slot ?? null]);
}

function choose(route: Route, projectId: string, user: string | null): ModelTarget {
  const target = pickTarget(route.targets, { projectId, slot: route.slot, user }, Math.random());
  return {
    provider: route.provider,
    model: target.base_model,
    checkpointId: target.checkpoint_id,
    storageKey: target.storage_key,
    slot: route.slot,
  };
}

function localRoute(slot: string, targets: readonly WeightedTarget[]): Route {
  return { provider: 'local', slot, targets };
}

function upstreamRoute(model: string): Route {
  return { provider: 'upstream', slot: DEFAULT_SLOT, targets: [baseTarget(model)] };
}

function baseTarget(model: string): WeightedTarget {
  return { checkpoint_id: null, base_model: model, storage_key: null, weight: 1 };
}

function tunedTarget(row: store.TunedModelRow): WeightedTarget {
  return { checkpoint_id: row.checkpoint_id, base_model: row.base_model, storage_key: row.storage_key, weight: 1 };
}

function modelNotFound(message: string): AppError {
  return new AppError({ code: 'responses.model.not_found', status: 404, message, field: 'model', retry: false });
}
