import { openApiDocument } from '@tuneloop/contracts/openapi';
import { isPublic, type RouteContract } from '@tuneloop/contracts/route';
import type { HttpApp } from '@tuneloop/runtime/http/app';

/** `/openapi.json`, and `/docs`: a page without scripts or outside parts that lists every route. */
export function mountDocs(app: HttpApp, routes: readonly RouteContract[], version: string): void {
  const document = JSON.stringify(openApiDocument(routes, version));
  const page = docsPage(routes);
  app.get('/openapi.json', async (_request, reply) => reply.type('application/json').send(document));
  app.get('/docs', async (_request, reply) => reply.type('text/html; charset=utf-8').send(page));
}

function docsPage(routes: readonly RouteContract[]): string {
  const listed = routes.filter((route) => isPublic(route));
  const groups = Map.groupBy(listed, (route) => route.tag ?? route.service);
  const sections = [...groups]
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(
      ([tag, members]) =>
        `<h2>${escape(tag)}</h2><table>${members
          .toSorted((a, b) => a.path.localeCompare(b.path))
          .map(
            (route) =>
              `<tr><td><code>${route.method}</code></td><td><code>${escape(route.path)}</code></td><td>${escape(
                route.summary,
              )}</td><td>${escape(route.scope ?? 'open')}</td></tr>`,
          )
          .join('')}</table>`,
    );
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tuneloop API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td{border-top:1px solid #8884;padding:.35rem .6rem .35rem 0;vertical-align:top}
</style></head><body><h1>Tuneloop API</h1><p>The machine-readable document is <a href="/openapi.json">/openapi.json</a>
(OpenAPI 3.1). The last column is the scope a key needs.</p>${sections.join('')}</body></html>`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
