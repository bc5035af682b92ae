import { judge } from '@tuneloop/contracts/rewards/internal';
import { AppError } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { projectSettings, type ProjectSettings } from '@tuneloop/runtime/projects';
import type { RewardsContext } from '../config.ts';
import type { Judge } from '../domain/judge.ts';
import { scriptedJudge } from '../domain/scriptedJudge.ts';

/** Asks the project's judge; its verdicts are synthetic and nobody's feedback, so nothing is stored. */
export function mountJudge(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(
    app,
    ctx,
    judge,
    async ({ body, tenant }) => {
      const settings = await tenant((tx) => projectSettings(tx, ctx));
      const configured = judgeOf(settings.judge);
      return {
        judge: { kind: configured.kind, name: configured.name, synthetic: true },
        items: await configured.judge(body.items, body.seed),
      };
    },
    { transaction: false },
  );
}

function judgeOf(settings: ProjectSettings['judge']): Judge {
  if (settings === null) {
    throw new AppError({
      code: 'rewards.judge.not_configured',
      status: 422,
      message: "The project has no judge: name one in the project's settings (judge).",
    });
  }
  return scriptedJudge(settings.taste);
}
