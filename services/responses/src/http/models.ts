import { deleteModel, getModel, listModels } from '@tuneloop/contracts/responses/http';
import { AppError } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { ChatDependencies } from '../egress/chatCompletion.ts';
import { deleteTunedModel, findTunedModel, listSlots } from '../store/routing.ts';

const MAX_MODELS = 500;
const MAX_SLOTS = 500;

export function mountModels(app: HttpApp, { ctx, router }: ChatDependencies): void {
  mountRoute(app, ctx, listModels, async ({ tx }) => {
    const names = await router.names(tx, await projectSettings(tx, ctx), MAX_MODELS);
    return { object: 'list', data: names.map(toModel) };
  });

  mountRoute(app, ctx, getModel, async ({ params, tx }) => {
    const { settings } = await router.resolve(tx, { model: params.model, slot: undefined, user: null });
    const names = await router.names(tx, settings, MAX_MODELS);
    return toModel(
      names.find(({ id }) => id === params.model) ?? { id: params.model, created: null, owner: 'project' },
    );
  });

  mountRoute(app, ctx, deleteModel, async ({ params, tx }) => {
    const tuned = params.model.startsWith('ft:') ? await findTunedModel(tx, { name: params.model }) : undefined;
    if (!tuned || tuned.deleted_at !== null) {
      await router.resolve(tx, { model: params.model, slot: undefined, user: null });
      throw refused('responses.model.not_deletable', 403, 'Only fine-tuned models (ft:…) can be deleted.');
    }
    const slots = await listSlots(tx, MAX_SLOTS);
    const serving = slots.find((row) => row.targets.some((target) => target.checkpoint_id === tuned.checkpoint_id));
    if (serving) {
      throw refused(
        'responses.model.deployed',
        409,
        `${params.model} serves in the slot ${serving.slot}: deploy something else there first.`,
      );
    }
    await deleteTunedModel(tx, params.model);
    return { id: params.model, object: 'model', deleted: true };
  });
}

function toModel(name: { id: string; created: Date | null; owner: string }) {
  const created = Math.floor((name.created?.getTime() ?? 0) / 1000);
  return { id: name.id, object: 'model' as const, created, owned_by: name.owner };
}

function refused(code: string, status: number, message: string): AppError {
  return new AppError({ code, status, message, field: 'model', retry: false });
}
