import { LeasedPool } from '@tuneloop/runtime/leases';
import { projectHandler } from '@tuneloop/runtime/projects';
import { defineService } from '@tuneloop/runtime/service';
import { type DatasetsContext, datasetsConfig } from './config.ts';
import {
  onPreferenceRecorded,
  onPreferenceRetracted,
  onRewardRecorded,
  onRewardRetracted,
} from './events/onFeedbackEvents.ts';
import { onItemErased } from './events/onItemErased.ts';
import { onResponseCreated, onResponseDeleted, onResponseUpdated } from './events/onResponseEvents.ts';
import { onTrainingRequested } from './events/onTrainingRequested.ts';
import { mountDatasets } from './http/datasets.ts';
import { mountFiles } from './http/files.ts';
import { mountInternal } from './http/internal.ts';
import { mountVersions } from './http/versions.ts';
import { runFreeze } from './usecases/freeze.ts';

const FREEZE_POLL_MS = 1_000;
/** Heartbeats in one lease: two may be lost. */
const HEARTBEATS_PER_LEASE = 4;

export const datasetsService = defineService({
  name: 'datasets',
  migrations: new URL('../migrations/', import.meta.url),
  config: datasetsConfig,
  create: (ctx: DatasetsContext) => {
    const { FREEZE_CONCURRENCY: concurrency, FREEZE_LEASE_MS: leaseMs } = ctx.config;
    const freezer = new LeasedPool({
      pg: ctx.pg,
      log: ctx.log,
      table: 'freezes',
      claimFunction: 'claim_freezes',
      owner: ctx.instance,
      concurrency,
      leaseMs,
      heartbeatMs: leaseMs / HEARTBEATS_PER_LEASE,
      pollMs: FREEZE_POLL_MS,
      work: (lease) => runFreeze(ctx, lease),
    });
    return {
      routes: (app) => {
        mountDatasets(app, ctx, freezer);
        mountVersions(app, ctx);
        mountFiles(app, ctx);
        mountInternal(app, ctx);
      },
      readsForms: true,
      handlers: [
        projectHandler<DatasetsContext>(),
        onResponseCreated,
        onResponseUpdated,
        onResponseDeleted,
        onRewardRecorded,
        onRewardRetracted,
        onPreferenceRecorded,
        onPreferenceRetracted,
        onTrainingRequested(freezer),
        onItemErased,
      ],
      jobs: [{ name: 'freezer', start: () => freezer.start(), stop: () => freezer.stop() }],
    };
  },
});
