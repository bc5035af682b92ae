interface Point {
  readonly step: number;
  readonly loss: number;
  readonly evalLoss?: number;
}

export function curveCsv(points: readonly Point[]): string {
  return ['step,loss,eval_loss', ...points.map((p) => `${p.step},${p.loss},${p.evalLoss ?? ''}`)].join('\n') + '\n';
}

const WIDTH = 640;
const HEIGHT = 280;
const MARGIN = { left: 56, right: 16, top: 36, bottom: 36 };
const TICKS = 4;

/** Training loss as a line, held-out loss as points joined by another. */
export function curveSvg(title: string, points: readonly Point[]): string {
  const held = points.filter((p) => p.evalLoss !== undefined).map((p) => ({ step: p.step, loss: p.evalLoss! }));
  const values = [...points, ...held].map((p) => p.loss);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const steps = points.at(-1)!.step;
  const x = (step: number): number => MARGIN.left + (step / steps) * (WIDTH - MARGIN.left - MARGIN.right);
  const y = (loss: number): number =>
    MARGIN.top + ((high - loss) / (high - low || 1)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const line = (of: readonly { step: number; loss: number }[], colour: string): string =>
    `<polyline fill="none" stroke="${colour}" stroke-width="2" points="${of.map((p) => `${x(p.step).toFixed(1)},${y(p.loss).toFixed(1)}`).join(' ')}"/>`;
  const ticks = Array.from({ length: TICKS + 1 }, (_, i) => low + ((high - low) * i) / TICKS).map(
    (loss) =>
      `<text x="${MARGIN.left - 8}" y="${(y(loss) + 4).toFixed(1)}" text-anchor="end">${loss.toFixed(2)}</text>` +
      `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y(loss).toFixed(1)}" y2="${y(loss).toFixed(1)}" stroke="#ddd"/>`,
  );
  const dots = held.map(
    (p) => `<circle cx="${x(p.step).toFixed(1)}" cy="${y(p.loss).toFixed(1)}" r="3" fill="#c2410c"/>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${MARGIN.left}" y="20" font-size="14">${title}: loss (blue), held-out loss (orange)</text>`,
    ...ticks,
    line(points, '#2563eb'),
    line(held, '#c2410c'),
    ...dots,
    `<text x="${WIDTH - MARGIN.right}" y="${HEIGHT - 10}" text-anchor="end">step ${steps}</text>`,
    '</svg>',
    '',
  ].join('\n');
}
