import {
  deletePromptTemplate,
  getPromptTemplate,
  listPromptTemplates,
  putPromptTemplate,
} from '@tuneloop/contracts/responses/http';
import { badRequest, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { etagOf, requireIfMatch } from '@tuneloop/runtime/http/etag';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { ResponsesContext } from '../context.ts';
import { DEFAULT_TEMPLATES, TEMPLATE_VARIABLES, unknownPlaceholders } from '../domain/template.ts';
import * as store from '../store/promptTemplates.ts';
import { lockFor } from '../store/prompts.ts';

export function mountPromptTemplates(app: HttpApp, ctx: ResponsesContext): void {
  mountRoute(app, ctx, listPromptTemplates, async ({ query, tx }) => {
    const rows = await store.listTemplates(tx, query.cursor, query.limit);
    return { data: rows, next_cursor: rows.length === query.limit ? rows.at(-1)!.category : null };
  });

  mountRoute(app, ctx, getPromptTemplate, async ({ params, tx, reply }) => {
    const row = await store.findTemplate(tx, params.category);
    if (!row) throw templateNotFound(params.category);
    void reply.header('etag', etagOf(row.version));
    return row;
  });

  mountRoute(app, ctx, putPromptTemplate, async ({ params, body, tx, raw, reply }) => {
    checkPlaceholders('body', body.body);
    checkPlaceholders('system', body.system ?? '');
    await lockFor(tx, `template ${params.category}`);
    const before = await store.findTemplate(tx, params.category);
    if (before) requireIfMatch(raw, etagOf(before.version));
    const row = await store.putTemplate(tx, { category: params.category, ...body, edited: true });
    void reply.header('etag', etagOf(row.version));
    return row;
  });

  mountRoute(app, ctx, deletePromptTemplate, async ({ params, tx }) => {
    const { category } = params;
    await lockFor(tx, `template ${category}`);
    if (!(await store.findTemplate(tx, category))) throw templateNotFound(category);
    const original = Object.hasOwn(DEFAULT_TEMPLATES, category) ? DEFAULT_TEMPLATES[category] : undefined;
    if (original) await store.putTemplate(tx, { category, ...original, edited: false });
    else await store.deleteTemplate(tx, category);
    return { category, deleted: true };
  });
}

function templateNotFound(category: string) {
  return notFound('responses.template.not_found', `There is no template for ${category}; general stands in for it`);
}

function checkPlaceholders(field: string, body: string): void {
  const [first] = unknownPlaceholders(body);
  if (first === undefined) return;
  const known = [...TEMPLATE_VARIABLES, 'facts.<word>'].join(', ');
  throw badRequest(
    'responses.template.unknown_placeholder',
    `${field} has ${first.slice(0, 100)}, which no picture has a value for; there is ${known}`,
    field,
  );
}
