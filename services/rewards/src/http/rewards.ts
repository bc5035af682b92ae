import { listPreferences, listRewards } from '@tuneloop/contracts/rewards/http';
import { snapshotPreferences, snapshotRewards } from '@tuneloop/contracts/rewards/internal';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { z } from 'zod';
import type { RewardsContext } from '../config.ts';
import * as preferences from '../store/preferences.ts';
import * as rewards from '../store/rewards.ts';
import { preferenceOnWire, rewardOnWire } from '../usecases/announce.ts';
import { idCursor, invalidCursor, nextCursor } from './cursor.ts';

export function mountListRewards(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(app, ctx, listRewards, async ({ query, tx }) => {
    const rows = await rewards.listRewards(tx, query, query.limit, idCursor(query.cursor));
    return { data: rows.map(rewardOnWire), next_cursor: nextCursor(rows, query.limit, (row) => row.id) };
  });
}

export function mountListPreferences(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(app, ctx, listPreferences, async ({ query, tx }) => {
    const rows = await preferences.listPreferences(tx, query, query.limit, positionOf(query.cursor));
    return { data: rows.map(preferenceOnWire), next_cursor: nextCursor(rows, query.limit, cursorOf) };
  });
}

export function mountSnapshots(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(app, ctx, snapshotRewards, async ({ query, tx }) => {
    const rows = await rewards.snapshotRewards(tx, query.limit, idCursor(query.cursor));
    return { data: rows.map(rewardOnWire), next_cursor: nextCursor(rows, query.limit, (row) => row.id) };
  });
  mountRoute(app, ctx, snapshotPreferences, async ({ query, tx }) => {
    const rows = await preferences.snapshotPreferences(tx, query.limit, idCursor(query.cursor));
    return { data: rows.map(preferenceOnWire), next_cursor: nextCursor(rows, query.limit, (row) => row.id) };
  });
}

const position = z.tuple([z.iso.datetime(), z.uuid()]);

function cursorOf(row: preferences.PreferenceRow): string {
  return Buffer.from(`${row.created_at.toISOString()} ${row.id}`).toString('base64url');
}

function positionOf(cursor: string | undefined): preferences.PreferencePosition | null {
  if (cursor === undefined) return null;
  const parsed = position.safeParse(Buffer.from(cursor, 'base64url').toString().split(' '));
  if (!parsed.success) throw invalidCursor();
  return { created_at: parsed.data[0], id: parsed.data[1] };
}
